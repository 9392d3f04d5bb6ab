"""Nodes and relays without room: it is said at once, and made up for as soon as there is room again."""

import contextlib
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sandboxes import Sandbox, wait_until


@contextlib.contextmanager
def full_file_system(directory: Path) -> Iterator[Path]:
    """Put a small file system over the directory that has no room; yields the file that takes it all."""
    options = ["-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", str(directory)]
    mounted = subprocess.run(["mount", *options], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    filler = directory / ".filler"
    try:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        yield filler
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_run_says_that_the_disk_is_full_and_runs_once_there_is_room(fragile_sandbox: Sandbox) -> None:
    wait_until(lambda: fragile_sandbox.trunkline("run", "--node", "vm-1", "--", "true"), "the sandbox works")
    commands = fragile_sandbox.state / "nodes" / "vm-1" / "state" / "commands"
    with full_file_system(commands) as filler:
        running = fragile_sandbox.start("run", "--node", "vm-1", "--id", "late", "--", "echo", "late")
        assert running.stderr is not None
        line = running.stderr.readline().decode()
        assert line.startswith("trunkline: vm-1: not delivered yet: the node answered 507: the node's disk is full")
        assert "(tried again until " in line
        shown = fragile_sandbox.trunkline("command", "get", "late", "-o", "json")
        assert shown.stderr == b""
        document = json.loads(shown.stdout)
        assert "disk is full" in document["reason"]
        assert document["deliver_before"] > document["submit_time"]
        filler.unlink()
        rest, errors = running.communicate(timeout=60)
    assert (running.returncode, rest, errors) == (0, b"late\n", b"")


def remarks(sandbox: Sandbox) -> dict[str, str]:
    """What the relay remarks of itself; it is ready all the while."""
    found = sandbox.description["admin_urls"]["relay"]
    with urllib.request.urlopen((found if isinstance(found, str) else found[0]) + "/readyz?verbose") as answer:  # noqa: S310
        said: dict[str, dict[str, str]] = json.load(answer)
    return said.get("remarks", {})


def test_a_relay_holds_to_what_its_disk_does_not_take_and_keeps_it_later(fragile_sandbox: Sandbox) -> None:
    wait_until(lambda: fragile_sandbox.trunkline("run", "--node", "vm-2", "--", "true"), "the sandbox works")
    state = fragile_sandbox.state / "relay" / "state"
    assert (state / "trust-document.jws").exists()
    with full_file_system(state) as filler:
        fragile_sandbox.trunkline("lock", "node", "vm-2", "--for", "1h", "--reason", "an alarm", "--no-wait")
        wait_until(lambda: "trust document" in remarks(fragile_sandbox).get("disk", ""), "the relay says so")
        assert fragile_sandbox.trunkline("run", "--node", "vm-1", "--", "true").returncode == 0
        filler.unlink()
        wait_until(lambda: "disk" not in remarks(fragile_sandbox), "the relay has kept it")
        assert (state / "trust-document.jws").exists()
