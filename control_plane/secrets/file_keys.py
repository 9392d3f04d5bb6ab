"""Key-encryption keys in a file of the state directory: mode 0600, replaced atomically, made at `init`.

A key is in the file before anything is wrapped with it, and leaves it only when nothing is wrapped with it any more,
so that a crash between any two steps leaves every data key readable.
"""

import secrets
from collections.abc import Collection
from pathlib import Path
from typing import Any

from certs.encoding import canonical_json, decode_base64url, encode_base64url, strict_json_object
from certs.errors import KeyFileError
from certs.keyfiles import read_secret, write_secret
from control_plane.secrets.envelope import DATA_KEY_BYTES, EnvelopeError, new_data_key, open_bound, seal_bound
from control_plane.secrets.key_encryption import KeyEncryptionError, WrappedKey
from trunkline.runtime.threads import in_thread

KEY_ID_BYTES = 10
MAX_DEPTH = 4


class FileKeyEncryption:
    """The default: keys in one file."""

    def __init__(self, path: Path) -> None:
        """Read the file; make it, with a first key, if there is none.

        Raises:
            KeyFileError: it cannot be read or made, others can read it, or it is damaged.
        """
        self._path = path
        if not path.exists():
            key_id = _new_key_id()
            _store(path, key_id, {key_id: new_data_key()})
        self._current, self._keys = _load(path)

    @property
    def current_key_id(self) -> str:
        """The key that `wrap` uses now."""
        return self._current

    async def wrap(self, data_key: bytes, context: bytes) -> WrappedKey:
        """Wrap a data key with AES-256-GCM under the current key."""
        return WrappedKey(self._current, seal_bound(data_key, self._keys[self._current], context))

    async def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Open a data key.

        Raises:
            KeyEncryptionError: the file has not the key, or the data key was altered or belongs elsewhere.
        """
        key = self._keys.get(wrapped.key_id)
        if key is None:
            raise KeyEncryptionError(
                f"the key-encryption key {wrapped.key_id} is not in {self._path}: restore that file from the backup "
                "that belongs to the database"
            )
        try:
            return open_bound(wrapped.ciphertext, key, context)
        except EnvelopeError as error:
            raise KeyEncryptionError(f"a workspace's data key does not open: {error}") from None

    async def add_key(self) -> str:
        """Make a new current key.

        Raises:
            KeyEncryptionError: the file cannot be written.
        """
        key_id = _new_key_id()
        await self._replace(key_id, self._keys | {key_id: new_data_key()})
        return key_id

    async def retire(self, in_use: Collection[str]) -> list[str]:
        """Forget the keys that nothing is wrapped with.

        Raises:
            KeyEncryptionError: the file cannot be written.
        """
        kept = {key_id: key for key_id, key in self._keys.items() if key_id == self._current or key_id in in_use}
        gone = sorted(self._keys.keys() - kept.keys())
        if gone:
            await self._replace(self._current, kept)
        return gone

    async def _replace(self, current: str, keys: dict[str, bytes]) -> None:
        try:
            await in_thread(_store, self._path, current, keys)
        except KeyFileError as error:
            raise KeyEncryptionError(str(error)) from None
        self._current, self._keys = current, keys


def _new_key_id() -> str:
    return f"kek-{secrets.token_hex(KEY_ID_BYTES)}"


def _store(path: Path, current: str, keys: dict[str, bytes]) -> None:
    encoded = {key_id: encode_base64url(key) for key_id, key in keys.items()}
    write_secret(path, canonical_json({"current": current, "keys": encoded}) + b"\n")


def _load(path: Path) -> tuple[str, dict[str, bytes]]:
    try:
        document = strict_json_object(read_secret(path), max_depth=MAX_DEPTH)
        keys = {key_id: decode_base64url(text) for key_id, text in _table(document["keys"]).items()}
        current = document["current"]
        if current not in keys or any(len(key) != DATA_KEY_BYTES for key in keys.values()):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise KeyFileError(f"{path} is damaged: restore it from the backup, workspace secrets need it") from None
    return current, keys


def _table(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError
    return value
