"""Files while they arrive: taken up, begun anew, put in place whole, and never what somebody else has put there."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from trunkline.files.partial import PartialBusy, PartialFile, WrongDigest, mode_of_new, received_bytes

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def within(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_PATH)
    yield descriptor
    os.close(descriptor)


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def interrupted(within: int, content: bytes) -> None:
    with PartialFile.open(within, "f") as partial:
        partial.restart()
        partial.append(content)


def test_a_file_is_in_place_whole_with_its_mode_and_time_or_not_at_all(within: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("before")
    with PartialFile.open(within, "f") as partial:
        partial.restart()
        partial.append(CONTENT)
        assert (tmp_path / "f").read_text() == "before"
        assert (tmp_path / ".f.trunkline-part").stat().st_mode & 0o777 == 0o600
        partial.commit(sha256(CONTENT), mode=0o4751, mtime_ns=1_500_000_000_123_456_789)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert (tmp_path / "f").stat().st_mode & 0o7777 == 0o751, "no set-user-id bit is given"
    assert (tmp_path / "f").stat().st_mtime_ns == 1_500_000_000_123_456_789
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_an_interrupted_one_goes_on_where_it_was(within: int, tmp_path: Path) -> None:
    interrupted(within, CONTENT[:1000])
    assert received_bytes("f", within) == 1000
    with PartialFile.open(within, "f") as partial:
        partial.rehash()
        assert (partial.size_bytes, partial.digest) == (1000, sha256(CONTENT[:1000]))
        partial.append(CONTENT[1000:])
        partial.commit(sha256(CONTENT), mode=0o644)
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_wrong_hash_leaves_the_place_as_it_was(within: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("before")
    with PartialFile.open(within, "f") as partial:
        partial.restart()
        partial.append(CONTENT)
        with pytest.raises(WrongDigest):
            partial.commit(sha256(b"other"), mode=0o644)
    assert (tmp_path / "f").read_text() == "before"
    assert received_bytes("f", within) == 0
    assert len(list(tmp_path.iterdir())) == 1


def test_one_that_holds_nothing_leaves_nothing(within: int, tmp_path: Path) -> None:
    with PartialFile.open(within, "f") as partial:
        partial.restart()
    assert list(tmp_path.iterdir()) == []


def test_two_at_once_do_not_mix(within: int) -> None:
    with PartialFile.open(within, "f") as partial:
        partial.restart()
        with pytest.raises(PartialBusy):
            PartialFile.open(within, "f")
        with PartialFile.open(within, "g"):
            pass


def test_a_link_in_its_place_is_replaced_and_not_written_through(within: int, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / ".f.trunkline-part").symlink_to(victim)
    (tmp_path / "f").symlink_to(victim)
    assert received_bytes("f", within) == 0
    with PartialFile.open(within, "f") as partial:
        partial.restart()
        partial.append(b"new")
        partial.commit(sha256(b"new"), mode=0o644)
    assert victim.read_text() == "untouched"
    assert not (tmp_path / "f").is_symlink()
    assert (tmp_path / "f").read_bytes() == b"new"


@pytest.mark.parametrize("trap", ["hard link", "open to others", "pipe"])
def test_what_somebody_else_may_have_put_there_is_not_gone_on_with(within: int, tmp_path: Path, trap: str) -> None:
    partial_path, victim = tmp_path / ".f.trunkline-part", tmp_path / "victim"
    victim.write_text("untouched")
    victim.chmod(0o600)
    if trap == "hard link":
        os.link(victim, partial_path)
    elif trap == "pipe":
        os.mkfifo(partial_path, 0o600)
    else:
        partial_path.write_text("theirs")
        partial_path.chmod(0o666)
    with PartialFile.open(within, "f") as partial:
        assert partial.size_bytes == 0
        partial.restart()
        partial.append(b"new")
        partial.commit(sha256(b"new"), mode=0o644)
    assert victim.read_text() == "untouched"
    assert (tmp_path / "f").read_bytes() == b"new"


@pytest.mark.skipif(os.geteuid() != 0, reason="takes two users")
def test_what_another_user_owns_is_not_gone_on_with(within: int, tmp_path: Path) -> None:
    interrupted(within, b"theirs")
    os.chown(tmp_path / ".f.trunkline-part", 12345, 12345)
    assert received_bytes("f", within) == 0
    with PartialFile.open(within, "f") as partial:
        assert partial.size_bytes == 0


def test_a_directory_is_not_replaced(within: int, tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(IsADirectoryError):
        PartialFile.open(within, "f")


def test_permissions_are_those_of_scp(within: int, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    (tmp_path / "there").chmod(0o640)
    assert mode_of_new("there", within, 0o777, keep=False, umask=0o022) == 0o640
    assert mode_of_new("new", within, 0o4777, keep=False, umask=0o022) == 0o755
    assert mode_of_new("there", within, 0o6711, keep=True, umask=0o022) == 0o711
