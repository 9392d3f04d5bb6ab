"""The vault: values go in and come out; in between they are ciphertext. All of it runs in the caller's transaction."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.errors import ApiError, ErrorCode, limit_reached
from control_plane.secrets.envelope import EnvelopeError, SecretPlace, new_data_key, open_value, seal_value
from control_plane.secrets.key_encryption import KeyEncryption, KeyEncryptionError, WrappedKey, context_of
from control_plane.secrets.references import SecretName
from control_plane.storage import secrets
from control_plane.storage.records.secrets import SecretDataKey, WorkspaceSecret

LARGEST_VALUE_BYTES = 128 * 1024
MOST_SECRETS = 1000
MOST_BYTES = 4 * 1024 * 1024
"""Of all values of a workspace together: a node that is granted all of them still gets them in one bundle."""


@dataclass(frozen=True, slots=True)
class Put:
    """What came of a put; `new` is False where the secret had this very value already."""

    version: int
    new: bool


class SecretVault:
    """Seals and opens the values of all workspaces."""

    def __init__(self, key_encryption: KeyEncryption) -> None:
        self._key_encryption = key_encryption

    async def put(
        self, session: AsyncSession, workspace_id: str, name: SecretName, value: bytes, *, now_ms: int, actor: str
    ) -> Put:
        """Store a value as the secret's next version, in an existing scope; the same value again changes nothing.

        Raises:
            ApiError: a bound is reached, or the data key cannot be had.
        """
        known = await secrets.find(session, workspace_id, name.scope, name.key)
        row, data_key = await self._data_key(session, workspace_id, now_ms)
        if known is not None and hmac.compare_digest(_open(known, data_key), value):
            return Put(known.version, new=False)
        await _check_bounds(session, workspace_id, known, len(value))
        row.last_version += 1
        secret = known or WorkspaceSecret(workspace_id=workspace_id, scope=name.scope, key=name.key)
        secret.version = row.last_version
        secret.sealed = seal_value(value, data_key, _place(secret))
        secret.size_bytes, secret.update_time, secret.updated_by = len(value), now_ms, actor
        session.add(secret)
        return Put(secret.version, new=True)

    async def open(self, session: AsyncSession, workspace_id: str, rows: Iterable[WorkspaceSecret]) -> list[bytes]:
        """Return the values of secrets of one workspace, in their order.

        Raises:
            ApiError: one does not open, or the data key cannot be had.
        """
        row = await secrets.find_data_key(session, workspace_id)
        sealed = list(rows)
        if row is None or not sealed:
            return []
        data_key = await self._unwrapped(row)
        return [_open(one, data_key) for one in sealed]

    async def _data_key(self, session: AsyncSession, workspace_id: str, now_ms: int) -> tuple[SecretDataKey, bytes]:
        row = await secrets.find_data_key(session, workspace_id)
        if row is not None:
            return row, await self._unwrapped(row)
        data_key = new_data_key()
        try:
            wrapped = await self._key_encryption.wrap(data_key, context_of(workspace_id))
        except KeyEncryptionError as error:
            raise _unopened(str(error)) from None
        row = SecretDataKey(
            workspace_id=workspace_id,
            key_id=wrapped.key_id,
            wrapped=wrapped.ciphertext,
            last_version=0,
            creation_time=now_ms,
        )
        session.add(row)
        return row, data_key

    async def _unwrapped(self, row: SecretDataKey) -> bytes:
        try:
            wrapped = WrappedKey(row.key_id, row.wrapped)
            return await self._key_encryption.unwrap(wrapped, context_of(row.workspace_id))
        except KeyEncryptionError as error:
            raise _unopened(str(error)) from None


async def _check_bounds(session: AsyncSession, workspace_id: str, known: WorkspaceSecret | None, size: int) -> None:
    count, total_bytes = await secrets.totals(session, workspace_id)
    if known is None and count >= MOST_SECRETS:
        raise limit_reached(f"a workspace may have {MOST_SECRETS} secrets: delete some")
    if total_bytes - (known.size_bytes if known is not None else 0) + size > MOST_BYTES:
        raise limit_reached(f"the values of a workspace may have {MOST_BYTES} bytes together: delete some secrets")


def _place(secret: WorkspaceSecret) -> SecretPlace:
    return SecretPlace(secret.workspace_id, secret.scope, secret.key, secret.version)


def _open(secret: WorkspaceSecret, data_key: bytes) -> bytes:
    try:
        return open_value(secret.sealed, data_key, _place(secret))
    except EnvelopeError as error:
        raise _unopened(f"the secret {secret.scope}/{secret.key} does not open: {error}") from None


def _unopened(reason: str) -> ApiError:
    return ApiError(ErrorCode.INTERNAL_ERROR, reason)
