"""Hashes of beginnings of files."""

import hashlib
import os
from pathlib import Path

import pytest

from trunkline.files.digests import PIECE_BYTES, hash_prefix


def test_it_hashes_so_much_tells_how_far_it_is_and_can_be_gone_on_with(tmp_path: Path) -> None:
    content = os.urandom(PIECE_BYTES * 2 + 10)
    (tmp_path / "f").write_bytes(content)
    descriptor, told = os.open(tmp_path / "f", os.O_RDONLY), list[int]()
    try:
        hasher = hash_prefix(descriptor, PIECE_BYTES + 1, told.append)
        assert told == [PIECE_BYTES, PIECE_BYTES + 1]
        hasher.update(content[PIECE_BYTES + 1 :])
        assert hasher.digest() == hashlib.sha256(content).digest()
        with pytest.raises(EOFError):
            hash_prefix(descriptor, len(content) + 1)
    finally:
        os.close(descriptor)
