"""`trunkline cp` with real daemons: both ways, whole trees, and while the way to the node breaks."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sandboxes import TRUNKLINE, Sandbox, wait_until
from tests.support.terminals import Terminal

LARGE_BYTES = 64 * 1024 * 1024


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that the node's user, who is nobody, can read and write; nodes run on this machine."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def cp(sandbox: Sandbox, *words: str | Path, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return sandbox.trunkline("cp", *map(str, words), check=False, stdin=stdin)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def large_file(path: Path) -> Path:
    path.write_bytes(os.urandom(1024 * 1024) * (LARGE_BYTES // 1024 // 1024))
    path.chmod(0o644)
    return path


def test_files_go_both_ways_and_into_directories(sandbox: Sandbox, shared: Path, tmp_path: Path) -> None:
    source = tmp_path / "one file"
    source.write_bytes(b"content\n")
    source.chmod(0o750)
    os.utime(source, (1_000_000_000, 1_000_000_000))
    finished = cp(sandbox, "-p", source, f"vm-1:{shared}")
    assert (finished.returncode, finished.stdout) == (0, b"")
    assert finished.stderr.startswith(b"1 file, 8 bytes")
    there = shared / "one file"
    assert there.read_bytes() == b"content\n"
    assert there.stat().st_uid != os.geteuid() or os.geteuid() != 0
    assert (there.stat().st_mode & 0o7777, there.stat().st_mtime) == (0o750, 1_000_000_000)
    assert cp(sandbox, "-q", f"vm-1:{there}", tmp_path / "back").stderr == b""
    assert (tmp_path / "back").read_bytes() == b"content\n"
    assert cp(sandbox, f"vm-1:{there}", "-").stdout == b"content\n"
    assert cp(sandbox, "-", f"vm-1:{shared}/piped", stdin=b"from a pipe").returncode == 0
    assert (shared / "piped").read_bytes() == b"from a pipe"


def test_a_file_steers_no_terminal(sandbox: Sandbox, shared: Path) -> None:
    (shared / "steering").write_bytes(b"\x1b]0;title\x07caught\n")
    (shared / "steering").chmod(0o644)
    command = [TRUNKLINE, "cp", "--state", str(sandbox.state), "-q", f"vm-1:{shared}/steering", "-"]
    with Terminal(command) as terminal:
        assert b"\x1b" not in terminal.until(rb"(?s).*caught")[0]
        assert terminal.end() == 0


def test_trees_go_both_ways_and_what_cannot_is_told(sandbox: Sandbox, shared: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub" / "empty").mkdir(parents=True)
    (tree / "sub" / os.fsdecode(b"odd \xff\x1b name")).write_text("odd")
    for number in range(30):
        (tree / f"f{number}").write_text(str(number))
    (tree / "sub" / "up").symlink_to("../f1")
    (tree / "out").symlink_to("/etc")
    finished = cp(sandbox, "-r", tree, f"vm-1:{shared}")
    assert finished.returncode == 1
    assert b"out was left out: the link leads out of the directory" in finished.stderr
    assert cp(sandbox, tree, f"vm-1:{shared}").returncode == os.EX_USAGE
    os.mkfifo(shared / "tree" / "pipe")
    finished = cp(sandbox, "-r", f"vm-1:{shared}/tree", tmp_path / "back")
    assert finished.returncode == 1
    assert b"pipe was left out" in finished.stderr
    assert b"\x1b" not in finished.stderr
    (tree / "out").unlink()
    same = subprocess.run(["diff", "-r", "--no-dereference", tree, tmp_path / "back"], capture_output=True, check=False)
    assert (same.returncode, same.stdout) == (0, b"")


def test_what_is_refused_says_why(sandbox: Sandbox, tmp_path: Path) -> None:
    for words, status, said in (
        (("vm-1:/nowhere/at/all", tmp_path), os.EX_NOINPUT, b"vm-1:/nowhere/at/all: No such file"),
        (("vm-1:/etc", tmp_path), os.EX_USAGE, b"--recursive"),
        (("--user", "games", "vm-1:/etc/passwd", tmp_path), os.EX_NOPERM, b"commands.allowed_users"),
        ((tmp_path, tmp_path), os.EX_USAGE, b"NODE:PATH"),
        (("vm-9:/etc/passwd", tmp_path), os.EX_NOINPUT, b"vm-9"),
    ):
        finished = cp(sandbox, *words)
        assert finished.returncode == status, finished.stderr
        assert said in finished.stderr
        assert finished.stderr.count(b"\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_was_copied_is_in_the_audit(sandbox: Sandbox, shared: Path, tmp_path: Path) -> None:
    (tmp_path / "audited").write_bytes(b"audited content")
    assert cp(sandbox, tmp_path / "audited", f"vm-1:{shared}/audited").returncode == 0
    digest = hashlib.sha256(b"audited content").hexdigest()

    def written() -> list[dict[str, object]]:
        events = sandbox.json("audit", "list", "--action", "file.write")["events"]
        return [event for event in events if event["details"].get("sha256") == digest]

    details = wait_until(written, "the copying is reported", seconds=30)[0]["details"]
    assert (details["path"], details["size_bytes"], details["outcome"]) == (f"{shared}/audited", 15, "complete")
    assert details["user"]
    assert details["subject"]
    assert "audited content" not in sandbox.logs()


@pytest.mark.parametrize("direction", ["to the node", "from the node"])
def test_a_relay_and_an_agent_that_are_killed_cost_no_byte(
    revived_sandbox: Sandbox, shared: Path, tmp_path: Path, direction: str
) -> None:
    source = large_file((tmp_path if direction == "to the node" else shared) / "source")
    target = (shared if direction == "to the node" else tmp_path) / "target"
    partial = target.with_name(".target.trunkline-part")
    words = [str(source), f"vm-1:{target}"] if direction == "to the node" else [f"vm-1:{source}", str(target)]

    def arrived(size_bytes: int) -> bool:
        return target.exists() or partial.stat().st_size >= size_bytes

    def kill_after(size_bytes: int, victim: str) -> int:
        """Kill it once so much has arrived; return how much has then."""
        wait_until(lambda: arrived(size_bytes), f"{size_bytes} bytes have arrived")
        assert not target.exists(), "nothing is in place before it is whole"
        revived_sandbox.kill(victim)
        return partial.stat().st_size

    running = revived_sandbox.start("cp", *words)
    try:
        first = kill_after(LARGE_BYTES // 8, "relay")
        kill_after(first + LARGE_BYTES // 4, "vm-1")  # more than was on its way
        _, said = running.communicate(timeout=90)
    finally:
        running.kill()
        running.communicate()
    assert running.returncode == 0, said
    assert said.count(b"goes on at") >= 2, said
    assert sha256(target) == sha256(source)
    assert not partial.exists()


def test_a_command_that_was_killed_is_gone_on_with_by_the_next(sandbox: Sandbox, shared: Path, tmp_path: Path) -> None:
    source, target = large_file(shared / "source"), tmp_path / "target"
    partial = tmp_path / ".target.trunkline-part"
    running = sandbox.start("cp", f"vm-1:{source}", str(target))
    wait_until(lambda: partial.stat().st_size >= LARGE_BYTES // 8, "an eighth has arrived")
    running.kill()
    running.communicate()
    assert not target.exists()
    finished = cp(sandbox, f"vm-1:{source}", target)
    assert finished.returncode == 0, finished.stderr
    assert b"goes on at" in finished.stderr
    assert sha256(target) == sha256(source)
