"""SHA-256 of files, and of their beginnings, read in pieces, with word of how far it is."""

import hashlib
import os
from collections.abc import Callable

PIECE_BYTES = 262_144
DIGEST_BYTES = 32

Progress = Callable[[int], None]


def no_progress(size_bytes: int) -> None:
    """Tell nobody."""


def hash_prefix(descriptor: int, length_bytes: int, progress: Progress = no_progress) -> "hashlib._Hash":
    """Return the hash of the first bytes of a file, to be gone on with.

    Raises:
        EOFError: the file is shorter.
        OSError: it cannot be read.
    """
    hasher, offset = hashlib.sha256(), 0
    while offset < length_bytes:
        piece = os.pread(descriptor, min(PIECE_BYTES, length_bytes - offset), offset)
        if not piece:
            raise EOFError
        hasher.update(piece)
        offset += len(piece)
        progress(offset)
    return hasher
