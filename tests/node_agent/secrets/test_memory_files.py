"""Files in memory: checked with the kernel, private, and gone afterwards."""

import os
import pwd
import stat
from pathlib import Path

import pytest

from node_agent.commands.accounts import find_account
from node_agent.secrets.memory_files import MemoryFiles, NoPlaceInMemory, candidates_for, is_in_memory

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture
def in_memory(tmp_path: Path):
    """A place on tmpfs of this test's own."""
    [_, place] = candidates_for(None, tmp_path)
    yield place
    if place.exists():
        for directory in place.iterdir():
            for file in directory.iterdir():
                file.unlink()
            directory.rmdir()
        place.rmdir()


def test_the_kernel_says_what_is_in_memory(tmp_path: Path):
    for path, expected in ((SHARED_MEMORY, True), (Path("/proc"), False)):
        descriptor = os.open(path, os.O_RDONLY)
        assert is_in_memory(descriptor) is expected
        os.close(descriptor)


def test_files_are_private_and_leave_nothing(in_memory: Path, log):
    files = MemoryFiles([in_memory], log)
    files.open()
    directory = files.make({"pw": b"hunter2", "key.pem": b"\x00"}, find_account(None))
    assert directory.parent == in_memory
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == {"pw": b"hunter2", "key.pem": b"\x00"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in directory.iterdir())
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    files.remove(directory)
    files.remove(directory)
    assert list(in_memory.iterdir()) == []
    files.close()
    assert not in_memory.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_user_owns_the_file_and_not_the_directory(in_memory: Path, log):
    files = MemoryFiles([in_memory], log)
    files.open()
    nobody = pwd.getpwnam("nobody")
    directory = files.make({"pw": b"hunter2"}, find_account("nobody"))
    status, file = directory.stat(), (directory / "pw").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (0, nobody.pw_gid, 0o710)
    assert (file.st_uid, file.st_gid, stat.S_IMODE(file.st_mode)) == (nobody.pw_uid, nobody.pw_gid, 0o600)


def test_what_an_agent_before_left_is_removed(in_memory: Path, log):
    first = MemoryFiles([in_memory], log)
    first.open()
    first.make({"pw": b"hunter2"}, find_account(None))
    MemoryFiles([in_memory], log).open()
    assert list(in_memory.iterdir()) == []


def test_a_disk_is_refused_before_anything_is_made(tmp_path: Path, log, monkeypatch):
    monkeypatch.setattr("node_agent.secrets.memory_files.is_in_memory", lambda descriptor: False)
    files = MemoryFiles([tmp_path / "secrets"], log)
    files.open()
    assert not (tmp_path / "secrets").exists()
    with pytest.raises(NoPlaceInMemory, match="on a disk"):
        files.make({"pw": b"hunter2"}, find_account(None))


def test_a_link_or_anothers_directory_is_not_used(tmp_path: Path, in_memory: Path, log):
    in_memory.mkdir()
    link = SHARED_MEMORY / f"{in_memory.name}-link"
    link.symlink_to(in_memory)
    try:
        files = MemoryFiles([link], log)
        files.open()
        with pytest.raises(NoPlaceInMemory):
            files.make({"pw": b"x"}, find_account(None))
    finally:
        link.unlink()
    if os.geteuid() == 0:
        os.chown(in_memory, pwd.getpwnam("nobody").pw_uid, -1)
        files = MemoryFiles([in_memory], log)
        files.open()
        with pytest.raises(NoPlaceInMemory, match="another user"):
            files.make({"pw": b"x"}, find_account(None))


def test_only_what_is_configured_is_looked_at(tmp_path: Path):
    assert candidates_for(tmp_path / "x", tmp_path) == [tmp_path / "x"]
    assert candidates_for(None, tmp_path) != candidates_for(None, tmp_path / "other")
