"""Places beneath a directory: links are followed in what was named, and nowhere below."""

import os
from pathlib import Path

import pytest

from trunkline.files import beneath


@pytest.fixture
def top(tmp_path: Path) -> Path:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("outside")
    top = tmp_path / "top"
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "file").write_text("inside")
    (top / "out").symlink_to(outside)
    (top / "sub" / "up").symlink_to("..")
    (tmp_path / "alias").symlink_to("top")
    return top


def test_the_directory_itself_may_be_named_by_a_link(top: Path) -> None:
    with beneath.directory(str(top.parent / "alias"), ["sub"]) as within:
        descriptor = beneath.open_regular("file", within)
    assert os.read(descriptor, 100) == b"inside"
    os.close(descriptor)


@pytest.mark.parametrize("parts", [["out"], ["sub", "up"], ["sub", "file"]])
def test_no_link_below_is_passed_through(top: Path, parts: list[str]) -> None:
    with pytest.raises(OSError, match=r"Not a directory|symbolic"), beneath.directory(str(top), parts):
        raise AssertionError("passed")


def test_the_last_name_is_no_link_unless_that_is_wanted(top: Path) -> None:
    (top / "link").symlink_to("sub/file")
    with beneath.directory(str(top)) as within:
        with pytest.raises(OSError, match="symbolic"):
            beneath.open_regular("link", within)
        os.close(beneath.open_regular("link", within, follow=True))


def test_what_is_no_file_is_not_opened_and_a_pipe_is_not_waited_for(top: Path) -> None:
    os.mkfifo(top / "pipe")
    with beneath.directory(str(top)) as within:
        with pytest.raises(beneath.NotRegular):
            beneath.open_regular("pipe", within)
        with pytest.raises(IsADirectoryError):
            beneath.open_regular("sub", within)


def test_a_directory_that_can_be_searched_and_not_listed_is_passed(top: Path) -> None:
    (top / "sub").chmod(0o311)
    with beneath.directory(str(top), ["sub"]) as within:
        beneath.sync_directory(within)
        found = beneath.look("file", within)
    assert found is not None
    assert beneath.kind_of(found.st_mode) == "file"
