"""Rotation of the key-encryption key: every workspace's data key is wrapped anew; no value is touched.

Theory of operation. The new key is on the disk before it wraps anything; each data key is wrapped anew in a
transaction; an old key is forgotten only once no data key needs it. A crash between any two of these steps leaves a
state in which everything opens, and `settle`, which every start runs, goes on from there.
"""

import asyncio

from control_plane.secrets.key_encryption import KeyEncryption, WrappedKey, context_of
from control_plane.storage import secrets
from control_plane.storage.audit import Actor, Happening, append
from control_plane.storage.database import Database
from trunkline.runtime.clock import Clock

AT_ONCE = 50


class KeyRotation:
    """Replaces the key-encryption key."""

    def __init__(self, *, database: Database, key_encryption: KeyEncryption, clock: Clock) -> None:
        self._database = database
        self._key_encryption = key_encryption
        self._clock = clock
        self._rotating = asyncio.Lock()

    async def rotate(self, actor: Actor) -> tuple[str, int]:
        """Make a new key and wrap every data key with it; returns its id, and how many data keys were wrapped anew.

        Raises:
            KeyEncryptionError: the new key cannot be made, or a data key does not open; everything else still does.
            StorageError: the database cannot be written; asked again, it goes on.
        """
        async with self._rotating:
            key_id = await self._key_encryption.add_key()
            wrapped = await self._wrap_all()
            retired = await self._retire()
            async with self._database.write() as session:
                details = {"key_id": key_id, "workspaces": wrapped, "retired": retired}
                append(session, self._clock.now(), actor, Happening("secret.rotate_key", details=details))
        return key_id, wrapped

    async def settle(self) -> None:
        """Finish a rotation that a crash interrupted; does nothing where there was none.

        Raises:
            KeyEncryptionError, StorageError: as `rotate`.
        """
        async with self._rotating:
            await self._wrap_all()
            await self._retire()

    async def _wrap_all(self) -> int:
        done = 0
        while True:
            async with self._database.write() as session:
                rows = await secrets.data_keys_not_under(session, self._key_encryption.current_key_id, most=AT_ONCE)
                for row in rows:
                    context = context_of(row.workspace_id)
                    data_key = await self._key_encryption.unwrap(WrappedKey(row.key_id, row.wrapped), context)
                    wrapped = await self._key_encryption.wrap(data_key, context)
                    row.key_id, row.wrapped = wrapped.key_id, wrapped.ciphertext
            done += len(rows)
            if not rows:
                return done

    async def _retire(self) -> list[str]:
        """Forget keys inside a write transaction, so that nobody wraps with one of them meanwhile."""
        async with self._database.write() as session:
            return await self._key_encryption.retire(await secrets.key_ids_in_use(session))
