"""Directories of a tree: made once, never through a link, and given their times last."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from trunkline.files.directories import make_directory, set_attributes


@pytest.fixture
def within(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_PATH)
    yield descriptor
    os.close(descriptor)


def test_one_that_is_there_is_taken(within: int, tmp_path: Path) -> None:
    make_directory("d", within)
    make_directory("d", within)
    set_attributes("d", within, 0o2750, 1_000_000_000)
    assert (tmp_path / "d").stat().st_mode & 0o7777 == 0o750
    assert (tmp_path / "d").stat().st_mtime == 1.0


def test_a_link_or_file_is_not_taken_for_one(within: int, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/tmp")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(NotADirectoryError):
            make_directory(name, within)
    with pytest.raises(OSError, match=r"symbolic|directory"):
        set_attributes("link", within, 0o700, 0)
