"""Key encryption: who wraps the workspaces' data keys. A file by default; a key service can take its place.

The interface is what key services have in common (encrypt and decrypt of 32 bytes with associated data, a name for
the key in use, a new key that becomes the one in use while older ones still decrypt). Its methods are coroutines,
since a service is asked over the network.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from certs.encoding import canonical_json

_LABEL = "trunkline workspace data key 1"


class KeyEncryptionError(Exception):
    """A data key cannot be wrapped or unwrapped; the message says what to do."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as it is stored: the ciphertext, and which key-encryption key opens it."""

    key_id: str
    ciphertext: bytes


class KeyEncryption(Protocol):
    """Wraps data keys."""

    @property
    def current_key_id(self) -> str:
        """The key that `wrap` uses now."""
        ...

    async def wrap(self, data_key: bytes, context: bytes) -> WrappedKey:
        """Wrap a data key with the key in use; it opens with the same context only.

        Raises:
            KeyEncryptionError: it cannot be wrapped now.
        """
        ...

    async def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Open a data key.

        Raises:
            KeyEncryptionError: its key is not there, or it was altered or belongs to another context.
        """
        ...

    async def add_key(self) -> str:
        """Make a new key, durably, and use it from now on; those before it still unwrap. Returns its id.

        Raises:
            KeyEncryptionError: it cannot be made; nothing has changed.
        """
        ...

    async def retire(self, in_use: Collection[str]) -> list[str]:
        """Forget, for good, all keys but the current one and those in use; returns the ids of those forgotten.

        Raises:
            KeyEncryptionError: they cannot be removed; nothing has changed.
        """
        ...


def context_of(workspace_id: str) -> bytes:
    """Return what a workspace's data key is bound to."""
    return canonical_json([_LABEL, workspace_id])
