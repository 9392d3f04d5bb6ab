"""Output is whole: while its command prints, daemons are killed ten times, and the reader has each byte once.

63 MB as it stands; `TRUNKLINE_OUTPUT_MILLION_LINES=118` makes it a gigabyte (`make soak-output`),
which is just below what nodes keep by default.
"""

import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import IO

import pytest

from tests.support.sandboxes import Sandbox, running_sandbox, wait_until

MILLION_LINES = int(os.environ.get("TRUNKLINE_OUTPUT_MILLION_LINES", "8"))
KILLS = 10
ROLES = ("relay", "vm-1", "control_plane")
BLOCKS = 100
PRINT_SECONDS = 7.0
EXIT_CODE = 7
READ_BYTES = 65_536

# Numbered lines, so that a piece that is missing, doubled or out of place changes the hash.
PRINTER = f"""
block=0
while [ $block -lt {BLOCKS} ]; do
    seq $((block * {MILLION_LINES * 1_000_000 // BLOCKS} + 1)) $(((block + 1) * {MILLION_LINES * 1_000_000 // BLOCKS}))
    block=$((block + 1))
    sleep {PRINT_SECONDS / BLOCKS}
done
echo done >&2
exit {EXIT_CODE}
"""


def expected() -> str:
    """What the output's hash is to be, by the same program without anything in between."""
    hashed = hashlib.sha256()
    with subprocess.Popen(["seq", "1", str(MILLION_LINES * 1_000_000)], stdout=subprocess.PIPE) as printing:
        assert printing.stdout is not None
        while piece := printing.stdout.read(READ_BYTES):
            hashed.update(piece)
    return hashed.hexdigest()


class Reader:
    """Reads what `trunkline run` prints, on a thread of its own."""

    def __init__(self, source: IO[bytes]) -> None:
        self.size_bytes = 0
        self.hash = hashlib.sha256()
        self._source = source
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while piece := self._source.read(READ_BYTES):
            self.hash.update(piece)
            self.size_bytes += len(piece)

    def join(self) -> None:
        self._thread.join()


def started_again(sandbox: Sandbox, role: str, old: int) -> Callable[[], bool]:
    return lambda: sandbox.pid(role) != old


@pytest.fixture
def one_node(tmp_path: Path) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path / "state", nodes=1) as running:
        yield running


@pytest.mark.timeout(600)
def test_daemons_are_killed_ten_times_and_the_output_is_whole(one_node: Sandbox) -> None:
    with one_node.start("run", "--node", "vm-1", "--id", "whole", "--", "sh", "-c", PRINTER) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        reader = Reader(running.stdout)
        wait_until(lambda: reader.size_bytes > 0, "output comes")
        for _, role in zip(range(KILLS), cycle(ROLES), strict=False):
            began = time.monotonic()
            wait_until(started_again(one_node, role, one_node.kill(role)), f"{role} is started again")
            # The kills are spread over the printing.
            time.sleep(max(0.0, began + PRINT_SECONDS / KILLS - time.monotonic()))
        reader.join()
        errors = running.stderr.read()
        assert running.wait(timeout=30) == EXIT_CODE, errors
    assert reader.hash.hexdigest() == expected()
    assert b"done" in errors
    assert b"not whole" not in errors
    assert "Traceback" not in one_node.logs()
