"""Slow peers and floods, one kind after the other: `python -m bench.soak_hostile`, or `make soak-hostile`.

The relay is the real daemon with its own defaults, on a core of its own. A thousand connections of each kind of slow
peer, and one link of each kind of flood; beside them one caller who makes a small call every five milliseconds. The
caller and its node are on the other core, as the attackers and theirs are, who have it when nobody else wants it. The
two have it at once, where this user may go first, since the kernel's work for the attackers is done there as well.
Prints, for each: after how long the relay had closed them all (its descriptors tell), the caller's 99th percentile in
terms of the quiet one before, the slowest call, the delay of the event loop that was not exceeded, and the growth of
memory.
Exits 1 if one is closed after more than its bound, or a call fails. Some five minutes.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.attack import TINY_CHUNKS, UNREAD_LINK, UNREAD_WINDOWS
from bench.build import Build
from bench.credentials import Credentials
from bench.floods import FLOODS
from bench.legitimate import calling, percentile
from bench.machine import IDLE_PRIORITY, LOAD_CORE, first_priority, go_first, pin, pinned, resident_kib
from bench.relay import Relay, listening, running_relay
from bench.relay_state import descriptors, lag_buckets, largest_lag_seconds, metrics
from bench.slow_peers import SLOW_PEERS
from bench.target import Target

SLOW_SECONDS = 15.0
FLOOD_SECONDS = 1.0
FLOODS_IN_TURN = 20
LONGEST_SECONDS = 90.0
QUIET_SECONDS = 5.0
LOOK_SECONDS = 0.05
COUNT_SECONDS = 0.25
HEADING = "| peers | at once | closed after, s | p99, ms: quiet, then | ratio | slowest, ms | lag, ms | memory, MiB |"


@dataclass(frozen=True, slots=True)
class Attacked:
    """One line of the table; `bound_seconds` is for `closed_seconds`."""

    name: str
    count: int
    closed_seconds: float
    bound_seconds: float | None
    quiet: list[float]
    meanwhile: list[float]
    lag_seconds: float
    growth_kib: int

    @property
    def held(self) -> bool:
        """Whether it was over in time."""
        return self.bound_seconds is None or self.closed_seconds <= self.bound_seconds

    def line(self) -> str:
        """As Markdown."""
        quiet, meanwhile = percentile(self.quiet, 0.99), percentile(self.meanwhile, 0.99)
        closed = f"{self.closed_seconds:.1f}" if self.held else f"**{self.closed_seconds:.1f}**"
        slowest = max(self.meanwhile, default=0.0)
        return (
            f"| {self.name} | {self.count} | {closed} | {quiet * 1e3:.1f}, {meanwhile * 1e3:.1f} | "
            f"{meanwhile / quiet:.1f}× | {slowest * 1e3:.0f} | ≤ {self.lag_seconds * 1e3:.0f} | "
            f"{self.growth_kib / 1024:.0f} |"
        )


class Soak:
    """One relay, one caller, and the attackers in turn."""

    def __init__(self, relay: Relay, target: Target, nodes_file: Path, taken: list[float]) -> None:
        self._relay = relay
        self._target = target
        self._nodes_file = nodes_file
        self._taken = taken

    async def attack(self, name: str, count: int, bound_seconds: float | None) -> Attacked:
        """Let them come, and wait until the relay is rid of them, or for as long as anybody would."""
        pid, relay = self._relay.pid, self._relay
        self._taken.clear()
        await asyncio.sleep(QUIET_SECONDS)
        quiet, before = list(self._taken), descriptors(pid)
        numbers, memory = await metrics(relay.admin_url), resident_kib(pid)
        self._taken.clear()
        with self._attackers(name, count) as attackers:
            await asyncio.to_thread(_until_up, attackers)
            if name in SLOW_PEERS:
                closed, most = await self._until(lambda: descriptors(pid) <= before, COUNT_SECONDS)
            else:
                self._taken.clear()  # nothing has been sent yet
                told = asyncio.create_task(asyncio.to_thread(_told, attackers))
                closed, most = await self._until(told.done, LOOK_SECONDS)
                closed = told.result() if told.done() else closed
        meanwhile = list(self._taken)  # before this process reads a page of metrics, which keeps its caller waiting
        lag = largest_lag_seconds(lag_buckets(await metrics(relay.admin_url)), lag_buckets(numbers))
        return Attacked(name, count, closed, bound_seconds, quiet, meanwhile, lag, most - memory)

    async def _until(self, over: Callable[[], bool], look_seconds: float) -> tuple[float, int]:
        """For how many seconds it was not over, and the most memory seen meanwhile, in KiB."""
        began, most = time.monotonic(), 0
        while time.monotonic() - began < LONGEST_SECONDS:
            most = max(most, resident_kib(self._relay.pid))
            if over():
                break
            await asyncio.sleep(look_seconds)
        return time.monotonic() - began, most

    @contextmanager
    def _attackers(self, name: str, count: int) -> Iterator[subprocess.Popen[str]]:
        command = [
            *IDLE_PRIORITY,
            sys.executable,
            "-m",
            "bench.attack",
            str(self._target.port),
            str(self._nodes_file),
            name,
            str(count),
        ]
        process = subprocess.Popen(
            pinned(LOAD_CORE, command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate(timeout=10)


def _until_up(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    if process.stdout.readline().strip() != "up":
        raise RuntimeError("the attackers did not come up")


def _told(process: subprocess.Popen[str]) -> float:
    """The seconds that the attackers say; the longest if they were killed."""
    assert process.stdout is not None
    return float(process.stdout.readline() or LONGEST_SECONDS)


@asynccontextmanager
async def soaking(directory: Path, build: Build) -> AsyncIterator[Soak]:
    """Everything that is needed, for as long as the block lasts."""
    credentials = Credentials(directory / "credentials")
    attacked, called = credentials.nodes(2)
    attacked_file = credentials.write_nodes([attacked], "attacked.json")
    called_file = credentials.write_nodes([called], "called.json")
    with ExitStack() as stack:
        relay = stack.enter_context(running_relay(directory / "relay", credentials, build=build))
        stack.enter_context(listening(relay, attacked_file, LOAD_CORE, priority=IDLE_PRIORITY))
        stack.enter_context(listening(relay, called_file, LOAD_CORE, priority=first_priority()))
        target = Target(relay.port, credentials.client_context(), called)
        async with calling(target) as taken:
            yield Soak(relay, target, attacked_file, taken)


async def run(arguments: argparse.Namespace, directory: Path) -> bool:
    """Run it all and print the table; returns whether every bound held."""
    held = True
    async with soaking(directory, Build.best()) as soak:
        print(f"{HEADING}\n|---|---|---|---|---|---|---|---|", flush=True)
        for name, count, bound in _plan(arguments):
            attacked = await soak.attack(name, count, bound)
            held = held and attacked.held
            print(attacked.line(), flush=True)
    return held


def _plan(arguments: argparse.Namespace) -> Iterator[tuple[str, int, float | None]]:
    """What is to be done: the attack, how many at once, and by when they are to be gone."""
    plan: list[tuple[str, int, float | None]] = [(name, arguments.peers, SLOW_SECONDS) for name in SLOW_PEERS]
    plan += [(name, FLOODS_IN_TURN, FLOOD_SECONDS) for name in FLOODS]
    plan += [(TINY_CHUNKS, 1, None), (UNREAD_LINK, 1, None), (UNREAD_WINDOWS, 1, None)]
    return (each for each in plan if arguments.only in each[0])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak_hostile", description=__doc__)
    parser.add_argument("--peers", type=int, default=1000, help="connections of each kind of slow peer")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the kinds whose name holds the text")
    arguments = parser.parse_args()
    pin(os.getpid(), LOAD_CORE)
    go_first()
    with tempfile.TemporaryDirectory(prefix="trunkline-hostile-") as directory:
        return 0 if asyncio.run(run(arguments, Path(directory))) else 1


if __name__ == "__main__":
    sys.exit(main())
