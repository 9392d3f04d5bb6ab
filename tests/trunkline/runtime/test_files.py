import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from trunkline.runtime.files import (
    NotARegularFileError,
    StateDirectory,
    StateDirectoryError,
    read_regular,
    write_atomic,
)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_file_is_replaced_whole_and_private(tmp_path):
    path = tmp_path / "state"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == ["state"]


def test_the_mode_is_not_subject_to_the_umask(tmp_path):
    previous = os.umask(0o777)
    try:
        write_atomic(tmp_path / "endpoints", b"x", mode=0o644)
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "endpoints").stat().st_mode) == 0o644


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "state"
    write_atomic(path, b"old")
    with pytest.raises(TypeError):
        write_atomic(path, "text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["state"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "state"
    write_atomic(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["state"]


def test_a_state_directory_belongs_to_one_process(tmp_path):
    path = tmp_path / "a" / "b"
    with StateDirectory(path, format_name="example 1"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert names(path) == ["format", "lock"]
        with pytest.raises(StateDirectoryError, match="another process"):
            StateDirectory(path, format_name="example 1").open()
    with StateDirectory(path, format_name="example 1"):
        pass


def test_another_format_is_refused(tmp_path):
    (tmp_path / "format").write_text("example 2\n")
    with pytest.raises(StateDirectoryError, match="its format is 'example 2'"):
        StateDirectory(tmp_path, format_name="example 1").open()


def test_a_directory_that_cannot_be_made_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateDirectoryError, match=r"state directory .*: .*"):
        StateDirectory(tmp_path / "file" / "state", format_name="example 1").open()


def test_directories_that_were_not_complete_and_files_in_others_are_removed_too(tmp_path):
    for name in (".authority.0123456789abcdef/root-key.pem", "signers/.ca-1.pem.0123456789abcdef", "signers/ca-0.pem"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("key")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "signers")
    with StateDirectory(tmp_path, format_name="relay-1"):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "format", "lock", "signers"]
        assert [path.name for path in (tmp_path / "signers").iterdir()] == ["ca-0.pem"]


def test_what_a_killed_process_had_begun_to_write_is_removed(tmp_path):
    for name in (".identity.json.0123456789abcdef", ".identity.json.0123", "identity.json", ".hidden"):
        (tmp_path / name).write_text("x")
    with StateDirectory(tmp_path, format_name="test 1"):
        left = {path.name for path in tmp_path.iterdir()}
    assert left == {".identity.json.0123", "identity.json", ".hidden", "format", "lock"}


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.fixture(params=["fifo", "socket", "directory", "device"])
def put(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    """How to put something else where a file belongs."""
    ways: dict[str, Callable[[Path], None]] = {
        "fifo": os.mkfifo,
        "socket": make_socket,
        "directory": Path.mkdir,
        "device": lambda path: path.symlink_to("/dev/zero"),
    }
    return ways[request.param]


def test_what_is_no_file_is_neither_waited_for_nor_read(tmp_path: Path, put: Callable[[Path], None]):
    put(tmp_path / "x")
    with pytest.raises(NotARegularFileError, match="not a regular file: remove it"):
        read_regular(tmp_path / "x", most_bytes=1)


@pytest.mark.parametrize("name", ["format", "lock"])
def test_a_state_directory_whose_files_are_none_is_refused(tmp_path: Path, put: Callable[[Path], None], name: str):
    put(tmp_path / name)
    with pytest.raises(StateDirectoryError, match=f"{tmp_path}: {name}: it is not a regular file: remove it"):
        StateDirectory(tmp_path, format_name="f").open()


def test_of_a_file_no_more_is_read_than_asked_for(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"abc")
    assert read_regular(tmp_path / "x", most_bytes=2) == b"ab"
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "y", most_bytes=2)
