"""Key stores: where the private keys of signers are made and kept, each under a name of its own.

A name is given once: what is stored under it never changes, so a record that names a key means that very key for ever.
"""

from pathlib import Path
from typing import Protocol

from certs.errors import KeyFileError
from certs.keyfiles import generate_key, load_key, sync_directory, write_key
from certs.signing import LocalSigningKey, SigningKey


class KeyStore(Protocol):
    """Makes, opens and destroys P-256 signing keys."""

    def create(self, name: str) -> SigningKey:
        """A new key, stored durably under `name` before this returns.

        Raises:
            KeyFileError: there is a key of that name, or it cannot be stored.
        """
        ...

    def open(self, name: str) -> SigningKey:
        """The key stored under `name`.

        Raises:
            KeyFileError: there is none, or it cannot be used.
        """
        ...

    def destroy(self, name: str) -> None:
        """Destroy the key stored under `name`, for good; nothing happens if there is none.

        Raises:
            KeyFileError: it cannot be removed.
        """
        ...


class FileKeys:
    """Keys in files below a directory (`NAME.pem`, 0600), and in this process's memory while they are used."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def create(self, name: str) -> SigningKey:
        """A new key in a new file, synced to the disk with its directory."""
        path = self._path(name)
        if path.exists():
            msg = f"{path} exists already"
            raise KeyFileError(msg)
        key = generate_key()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_key(path, key)
            sync_directory(path.parent.parent)
        except OSError as error:
            msg = f"cannot write {path}: {error.strerror}"
            raise KeyFileError(msg) from error
        return LocalSigningKey(key)

    def open(self, name: str) -> SigningKey:
        """The key in its file."""
        return LocalSigningKey(load_key(self._path(name)))

    def destroy(self, name: str) -> None:
        """Remove the file, durably."""
        path = self._path(name)
        try:
            path.unlink(missing_ok=True)
            if path.parent.exists():
                sync_directory(path.parent)
        except OSError as error:
            msg = f"cannot remove {path}: {error.strerror}"
            raise KeyFileError(msg) from error

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.pem"
