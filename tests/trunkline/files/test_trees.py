"""Listings of trees, which follow no link."""

import os
from pathlib import Path

import pytest

from trunkline.files.trees import TooManyEntries, TreeEntry, walk


def listed(path: Path, most: int = 1000) -> list[TreeEntry]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return list(walk(descriptor, most))
    finally:
        os.close(descriptor)


def test_a_directory_comes_before_what_it_holds_and_links_are_told_not_followed(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "b" / "c" / "f").write_text("12345")
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "etc").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / ".x.trunkline-part").touch()
    (tmp_path / os.fsdecode(b"\xff")).touch()
    entries = listed(tmp_path)
    assert [(entry.path, entry.kind) for entry in entries] == [
        ("a", "link"), ("b", "directory"), ("b/c", "directory"), ("b/c/f", "file"), ("etc", "link"), ("pipe", "other"),
        ("\udcff", "file"),
    ]  # fmt: skip
    assert entries[0].target == "b"
    assert entries[3].size_bytes == 5


def test_it_is_bounded_in_number_and_depth(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).touch()
    assert len(listed(tmp_path, 5)) == 5
    with pytest.raises(TooManyEntries):
        listed(tmp_path, 4)
    deep = tmp_path / "deep"
    deep.joinpath(*["d"] * 130).mkdir(parents=True)
    with pytest.raises(TooManyEntries):
        listed(deep)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
def test_a_directory_that_cannot_be_listed_is_told(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o000)
    assert listed(tmp_path)[0].problem == "Permission denied"
