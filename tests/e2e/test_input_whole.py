"""Standard input is whole: of any size, through daemons that are killed, to commands that read slowly or not at all."""

import hashlib
import os
import pty
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.support.sandboxes import TRUNKLINE, Sandbox, wait_until

MEGABYTES = 100
MEGABYTE = 1_000_000
MOST_KILOBYTES = 200 * 1024
# Reads slowly enough that daemons can be killed meanwhile, and says how far it is.
SLOW_READER = """\
import hashlib, sys, time
digest, size = hashlib.sha256(), 0
while piece := sys.stdin.buffer.read(1_000_000):
    digest.update(piece)
    size += len(piece)
    print(size, file=sys.stderr, flush=True)
    time.sleep(0.3)
print(digest.hexdigest())
sys.exit(7)
"""


def content(megabytes: int) -> bytes:
    return random.Random(megabytes).randbytes(megabytes * MEGABYTE)


def started(sandbox: Sandbox, *words: str, stdin: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    command = [TRUNKLINE, words[0], "--stdin", "--state", str(sandbox.state), *words[1:]]
    return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def write_all(pipe: IO[bytes], given: bytes) -> None:
    pipe.write(given)
    pipe.close()


def started_again(sandbox: Sandbox, role: str, old: int) -> Callable[[], bool]:
    return lambda: sandbox.pid(role) != old


def peak_kilobytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise AssertionError("it has no memory")


def test_much_input_arrives_whole_and_nobody_holds_it(sandbox: Sandbox) -> None:
    given = content(MEGABYTES)
    with started(sandbox, "run", "--node", "vm-1", "--", "sha256sum") as running:
        out, errors = running.communicate(given)
    assert (running.returncode, errors) == (0, b"")
    assert out.split()[0].decode() == hashlib.sha256(given).hexdigest()
    for role in ("control_plane", "relay", "vm-1"):
        assert peak_kilobytes(sandbox.pid(role)) < MOST_KILOBYTES, role


def test_input_goes_on_where_it_was_when_daemons_are_killed(revived_sandbox: Sandbox) -> None:
    given = content(8)
    with started(revived_sandbox, "run", "--node", "vm-1", "--", "python3", "-c", SLOW_READER) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stderr is not None
        writing = threading.Thread(target=write_all, args=(running.stdin, given))
        writing.start()
        for role in ("vm-1", "relay", "control_plane"):
            assert running.stderr.readline(), "the command reads"
            old = revived_sandbox.kill(role)
            wait_until(started_again(revived_sandbox, role, old), f"{role} is started again")
        out = running.stdout.read()
        writing.join()
        errors = running.stderr.read()
        assert running.wait(timeout=30) == 7, errors
    assert out.decode().strip() == hashlib.sha256(given).hexdigest()
    assert b"could not be brought" not in errors


def test_a_command_that_reads_no_further_ends_as_it_ends(sandbox: Sandbox) -> None:
    given = content(5)
    with started(sandbox, "run", "--node", "vm-1", "--", "sh", "-c", "head -c 10 | wc -c; exit 3") as running:
        out, errors = running.communicate(given)
    assert (running.returncode, out.split(), errors) == (3, [b"10"], b"")
    script = "exec <&-; sleep 1; echo done"
    with started(sandbox, "run", "--node", "vm-1", "--", "sh", "-c", script) as running:
        out, errors = running.communicate(given)
    assert (running.returncode, out, errors) == (0, b"done\n", b"")


def test_input_that_comes_little_by_little_is_read_as_it_comes(sandbox: Sandbox) -> None:
    with started(sandbox, "run", "--node", "vm-1", "--", "cat") as running:
        assert running.stdin is not None
        assert running.stdout is not None
        for line in (b"one\n", b"two\n"):
            running.stdin.write(line)
            running.stdin.flush()
            assert running.stdout.readline() == line
        running.stdin.close()
        assert running.wait(timeout=30) == 0


def test_a_script_is_given_an_input_of_its_own(sandbox: Sandbox, tmp_path: Path) -> None:
    given = content(3)
    script = tmp_path / "count.sh"
    script.write_text("#!/bin/sh\nhead -c 4; wc -c; echo $1\n")
    words = ("script", "--node", "vm-1", str(script), "--", "argument")
    for size in (1000, len(given)):
        with started(sandbox, *words) as running:
            out, errors = running.communicate(given[:size])
        assert (running.returncode, errors) == (0, b"")
        assert out == given[:4] + b"%d\nargument\n" % (size - 4)


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def test_what_is_typed_stays_for_the_shell_unless_it_is_asked_for(sandbox: Sandbox, terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    os.write(ours, b"for the shell\n")
    command = [TRUNKLINE, "run", "--state", str(sandbox.state), "--node", "vm-1", "--", "cat"]
    ran = subprocess.run(command, stdin=theirs, capture_output=True, timeout=60, check=True)
    assert ran.stdout == b""
    assert os.read(theirs, 100) == b"for the shell\n"
    os.write(ours, b"for the command\n")
    with started(sandbox, "run", "--node", "vm-1", "--", "head", "-1", stdin=theirs) as running:
        assert running.stdout is not None
        assert running.stdout.read() == b"for the command\n"
        assert running.wait(timeout=30) == 0
    os.write(ours, b"for the shell\n")
    assert os.read(theirs, 100) == b"for the shell\n"
