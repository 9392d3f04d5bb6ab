"""Links that a copied tree may have: only those that stay in it."""

import os
from pathlib import Path

import pytest

from trunkline.files.links import make_link, stays_inside


@pytest.mark.parametrize(
    ("depth", "target"),
    [(0, "a"), (0, "a/b"), (1, "../a"), (2, "../../a"), (1, "./.././a"), (1, "..")],
)
def test_those_that_stay(depth: int, target: str) -> None:
    assert stays_inside(depth, target)


@pytest.mark.parametrize(
    ("depth", "target"),
    [(0, "/etc/passwd"), (0, ".."), (0, "../a"), (1, "../../a"), (5, "a/../../b"), (3, "a/.."), (0, ""), (0, "a\0"),
     (1, "./../../x"), (0, "a" * 5000)],
)  # fmt: skip
def test_those_that_lead_out_or_might(depth: int, target: str) -> None:
    assert not stays_inside(depth, target)


def test_a_link_takes_the_place_of_a_file_and_never_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "directory").mkdir()
    within = os.open(tmp_path, os.O_PATH)
    try:
        make_link("file", within, "elsewhere")
        make_link("file", within, "elsewhere")
        with pytest.raises(OSError, match="directory"):
            make_link("directory", within, "elsewhere")
    finally:
        os.close(within)
    assert (tmp_path / "file").readlink() == Path("elsewhere")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory", "file"]
