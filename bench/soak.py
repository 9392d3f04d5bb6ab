"""A bounded soak of everything at once: `python -m bench.soak [MINUTES]`, or `make soak`; ten minutes unless told.

A sandbox of real daemons. Its nodes are called all the time: through the SDK, through kept-alive connections and new
ones; calls are given up; commands run. Meanwhile the signing key is rotated again and again, and the agents of two
nodes that nobody calls are killed in turn. Prints what failed, and for each third of the time what the relay had open
and held, as medians, and of Python's blocks the least. The first fifth is left out: what the relay remembers is not yet
as old as it gets. Exits 1 if a call failed, a count of the last third is above that of the second, or memory is.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from bench.machine import resident_kib
from bench.relay_state import descriptors, metrics
from bench.soak_rotation import Figures, Load, Rotator, at, read
from certs.tls import client_context
from tests.support.sandboxes import TRUNKLINE, Sandbox
from trunkline.client.commands import CommandRequest, Target
from trunkline.client.control_plane import ControlPlane

CALLED, KILLED = 6, 2
SDK_CALLS_PER_SECOND = 60.0
PLAIN_SECONDS = 0.02
NEW_CONNECTION_SECONDS = 0.1
GIVE_UP_SECONDS = 0.05
COMMAND_SECONDS = 1.0
KILL_SECONDS = 7.0
ROTATION_SECONDS = 10.0
LOOK_SECONDS = 1.0
TOKEN_SECONDS = 60
CALL_SECONDS = 20.0
WARM_UP_SHARE = 0.2
COUNT_SLACK = 4.0
"""Of medians: what is open at a moment is not the same at each."""
MEMORY_SLACK_KIB = 1024.0
TYPICAL: dict[str, Callable[[list[float]], float]] = {"blocks": min}
"""Medians, but for blocks the least: what cycles hold is not kept, and goes when Python looks for them."""
BLOCKS_SLACK = 3000.0
"""A hundredth of what a relay has; what was kept of each call of a third would be ten times as many."""


@dataclass(slots=True)
class Looks:
    """What the relay had open and held, second by second, by name."""

    seen: dict[str, list[float]] = field(default_factory=dict)

    async def look(self, sandbox: Sandbox) -> None:
        """Look once."""
        pid = sandbox.pid("relay")
        numbers = await metrics(sandbox.description["admin_urls"]["relay"])
        found = {
            "descriptors": float(descriptors(pid)),
            "tasks": numbers["trunkline_relay_tasks"],
            "streams": numbers["trunkline_relay_streams_open"],
            "links": sum(value for name, value in numbers.items() if name.startswith("trunkline_relay_links_open")),
            "held, KiB": numbers["trunkline_relay_held_bytes"] / 1024,
            "blocks": numbers["trunkline_python_allocated_blocks"],
            "memory, KiB": float(resident_kib(pid)),
        }
        for name, value in found.items():
            self.seen.setdefault(name, []).append(value)

    def thirds(self) -> dict[str, tuple[float, float, float]]:
        """What is typical of each third of the time that was looked at."""
        size = len(next(iter(self.seen.values()))) // 3
        return {
            name: (
                TYPICAL.get(name, statistics.median)(values[:size]),
                TYPICAL.get(name, statistics.median)(values[size : 2 * size]),
                TYPICAL.get(name, statistics.median)(values[2 * size :]),
            )
            for name, values in self.seen.items()
        }

    def grown(self) -> list[str]:
        """What the last third has more of than the second."""
        slack = {"memory, KiB": MEMORY_SLACK_KIB, "blocks": BLOCKS_SLACK}
        return [
            name for name, (_, second, last) in self.thirds().items() if last > second + slack.get(name, COUNT_SLACK)
        ]


class Traffic:
    """Everything that is done beside the calls of the SDK."""

    def __init__(self, sandbox: Sandbox, control_plane: ControlPlane, figures: Figures) -> None:
        description = sandbox.description
        self._sandbox = sandbox
        self._workspace = control_plane.workspace("main")
        self._rotator = Rotator(control_plane, figures)
        self._figures = figures
        self._gateway = f"{description['relay_url']}/v1/workspaces/main/nodes"
        self._context = client_context(ca_file=Path(description["ca_file"]))
        self._nodes = itertools.cycle([f"vm-{number}" for number in range(1, CALLED + 1)])
        self._killed = itertools.cycle([f"vm-{number}" for number in range(CALLED + 1, CALLED + KILLED + 1)])
        self._tokens: dict[str, tuple[str, float]] = {}

    async def run(self) -> None:
        """Go on until cancelled."""
        connector = aiohttp.TCPConnector(ssl=self._context)
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._again(PLAIN_SECONDS, lambda: self._counted(self._plain(session))))
            tasks.create_task(self._again(NEW_CONNECTION_SECONDS, lambda: self._counted(self._anew())))
            tasks.create_task(self._again(GIVE_UP_SECONDS, lambda: self._give_up(session)))
            tasks.create_task(self._again(COMMAND_SECONDS, lambda: self._counted(self._command())))
            tasks.create_task(self._again(KILL_SECONDS, self._kill))
            tasks.create_task(
                self._again(
                    ROTATION_SECONDS, lambda: self._rotator.steps("signing-key", "prepare", "activate", "retire")
                )
            )

    async def _again(self, pause_seconds: float, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await act()
            await asyncio.sleep(pause_seconds)

    async def _counted(self, call: Coroutine[Any, Any, None]) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await call
        except Exception as error:  # noqa: BLE001 - whatever it is, the call has failed
            self._figures.failures[f"{type(error).__name__}: {error}"[:160]] += 1
        self._figures.calls += 1
        self._figures.latencies.append(time.monotonic() - began)

    async def _plain(self, session: aiohttp.ClientSession) -> None:
        node = next(self._nodes)
        headers = {"Authorization": f"Bearer {await self._token(node)}"}
        async with session.get(f"{self._gateway}/{node}/v1/health", headers=headers) as answer:
            await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"status {answer.status}")

    async def _anew(self) -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._context)) as session:
            await self._plain(session)

    async def _give_up(self, session: aiohttp.ClientSession) -> None:
        """A call that is given up at once; what comes of it is nobody's business."""
        with contextlib.suppress(TimeoutError, aiohttp.ClientError):
            async with asyncio.timeout(0.002):
                await self._plain(session)

    async def _command(self) -> None:
        (command,) = await self._workspace.commands.submit(
            Target(node=next(self._nodes)), CommandRequest(argv=("true",))
        )
        ended = await self._workspace.commands.wait(command.command_id, timeout_seconds=CALL_SECONDS)
        if ended.state != "SUCCEEDED":
            raise RuntimeError(f"a command ended {ended.state}")

    async def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._sandbox.pid(next(self._killed)), signal.SIGKILL)

    async def _token(self, node: str) -> str:
        token, good_until = self._tokens.get(node, ("", 0.0))
        if time.monotonic() >= good_until:
            issued = await self._workspace.create_call_token(node, ["health:read"], lifetime_seconds=TOKEN_SECONDS)
            token = issued.token
            self._tokens[node] = (token, time.monotonic() + TOKEN_SECONDS / 4)
        return token


@asynccontextmanager
async def going_on(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Work that goes on in the block; what it raises other than being cancelled comes out."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


async def soak(sandbox: Sandbox, seconds: float) -> tuple[Figures, Looks]:
    """Do everything for so long."""
    description, figures, looks = sandbox.description, Figures(), Looks()
    ca_file = Path(description["ca_file"])
    token = read(Path(description["admin_token_file"]))
    async with ControlPlane(description["control_plane_url"], token, ca_file=ca_file) as control_plane:
        load = Load(control_plane, description["relay_url"], ca_file, figures)
        called = [f"vm-{number}" for number in range(1, CALLED + 1)]
        async with going_on(load.run(called, SDK_CALLS_PER_SECOND), Traffic(sandbox, control_plane, figures).run()):
            await asyncio.sleep(WARM_UP_SHARE * seconds)
            ends = time.monotonic() + (1 - WARM_UP_SHARE) * seconds
            while time.monotonic() < ends:
                await asyncio.sleep(LOOK_SECONDS)
                await looks.look(sandbox)
    return figures, looks


def show(figures: Figures, looks: Looks) -> None:
    """Print it all."""
    ordered = sorted(figures.latencies)
    print(f"calls {figures.calls}, failed {figures.failures.total()}; rotations took {figures.steps} steps")
    for reason, count in figures.failures.most_common(10):
        print(f"  {count} × {reason}")
    print(f"p50 {at(ordered, 0.5) * 1000:.1f} ms, p99 {at(ordered, 0.99) * 1000:.1f} ms")
    print("| of the relay | first third | second | last |\n|---|---|---|---|")
    for name, thirds in looks.thirds().items():
        print(f"| {name} | " + " | ".join(f"{value:.0f}" for value in thirds) + " |")
    for name in looks.grown():
        print(f"{name}: more in the last third than in the second")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("minutes", type=float, nargs="?", default=10.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trunkline-soak-") as directory:
        sandbox = Sandbox(Path(directory) / "state")
        state = ["--state", str(sandbox.state)]
        subprocess.run([TRUNKLINE, "up", "--detach", "--nodes", str(CALLED + KILLED), *state], check=True)
        try:
            figures, looks = asyncio.run(soak(sandbox, arguments.minutes * 60))
        finally:
            subprocess.run([TRUNKLINE, "down", *state], check=False)
    show(figures, looks)
    return 1 if figures.failures or looks.grown() else 0


if __name__ == "__main__":
    sys.exit(main())
