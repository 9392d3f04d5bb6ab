"""A bounded soak of rotation: `python -m bench.soak_rotation`, or `make soak-rotation`; some seven minutes.

A sandbox of real daemons, 50 nodes that are called all the time, and meanwhile: the authority and the signing key
rotated and rolled back from every phase, the signing key rotated again and again, and the authority rotated while one
agent is stopped (SIGSTOP). Prints what counts: calls that failed, links that were lost, how long adoption took, and how
long the sleeper took to come back. Exits 1 if a call failed, a link was lost that no rotation planned to hand over, or
the sleeper did not come back in time.
"""

import argparse
import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from certs.tls import client_context
from tests.support.sandboxes import TRUNKLINE, Sandbox
from trunkline.client.control_plane import ControlPlane
from trunkline.client.errors import ApiError, TrunklineError
from trunkline.client.node_sender import NodeSender
from trunkline.client.records.rotations import Rotation
from trunkline.client.rotations import RotationApi, RotationStep

CALL_TIMEOUT_SECONDS = "3"
TOKEN_SECONDS = 6
MOST_CALLS = 200
"""At once: beyond that the machine is too slow for the rate, and what there is of it is used."""
SLEEPER_SECONDS = 60.0
# By then the relay has given the sleeper's link up, so that it has to dial with what it has.
LINK_LOST_SECONDS = 30.0
STEP_SECONDS = 120.0
POLL_SECONDS = 0.2
_LOST = re.compile(r"ending=lost")
_REPLACED = re.compile(r"ending=(?:replaced|draining)")


@dataclass
class Figures:
    """What is printed at the end; times in seconds."""

    calls: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    adoption: dict[str, list[float]] = field(default_factory=dict)
    steps: int = 0
    back: float | None = None

    @property
    def so_far(self) -> str:
        """The calls in a few words."""
        return f"calls {self.calls}, failed {self.failures.total()}"


class Load:
    """Calls every node in turn at a given rate; tokens live for seconds, as they do where they are asked for anew."""

    def __init__(self, control_plane: ControlPlane, relay_url: str, ca_file: Path, figures: Figures) -> None:
        self._workspace = control_plane.workspace("main")
        self._sender = NodeSender(relay_url, ssl_context=client_context(ca_file=ca_file))
        self._figures = figures
        self._tokens: dict[str, tuple[str, str, float]] = {}
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._calls: set[asyncio.Task[None]] = set()

    async def run(self, nodes: list[str], per_second: float) -> None:
        """Call until cancelled."""
        started, number = time.monotonic(), 0
        try:
            while True:
                while len(self._calls) >= MOST_CALLS:
                    await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
                task = asyncio.create_task(self._call(nodes[number % len(nodes)]))
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)
                number += 1
                await asyncio.sleep(max(0.0, started + number / per_second - time.monotonic()))
        finally:
            await asyncio.gather(*self._calls, return_exceptions=True)
            await self._sender.close()

    async def _token(self, node: str) -> tuple[str, str]:
        async with self._asking[node]:
            host, token, good_until = self._tokens.get(node, ("", "", 0.0))
            if time.monotonic() >= good_until:
                asked = time.monotonic()
                issued = await self._workspace.create_call_token(node, ["health:read"], lifetime_seconds=TOKEN_SECONDS)
                host, token = issued.host or "", issued.token
                self._tokens[node] = (host, token, asked + TOKEN_SECONDS / 2)
        return host, token

    async def _call(self, node: str) -> None:
        self._figures.calls += 1
        try:
            host, token = await self._token(node)
            started = time.monotonic()
            response = await self._sender.request("GET", host, "/v1/health", token=token, timeout_seconds=10)
            await response.read()
            if response.status != 200:
                self._figures.failures[f"status {response.status}"] += 1
            self._figures.latencies.append(time.monotonic() - started)
        except TrunklineError as error:
            self._figures.failures[str(error)] += 1


class Rotator:
    """Takes steps as soon as their gates are open, and notes how long that took."""

    def __init__(self, control_plane: ControlPlane, figures: Figures) -> None:
        self._control_plane = control_plane
        self._figures = figures

    async def steps(self, kind: str, *steps: RotationStep) -> None:
        """Take these steps in turn."""
        rotation = self._control_plane.account.rotation(kind)  # type: ignore[arg-type]
        for step in steps:
            await self.step(rotation, kind, step)

    async def step(self, rotation: RotationApi, kind: str, step: RotationStep) -> None:
        """Wait for a step's gate, and take it."""
        began = time.monotonic()
        while time.monotonic() - began < STEP_SECONDS:
            seen = await rotation.get()
            verdict = seen.next(step)
            if verdict is not None and verdict.open:
                await self._take(rotation, step, seen)
                self._figures.adoption.setdefault(f"{kind} {step}", []).append(time.monotonic() - began)
                self._figures.steps += 1
                return
            await asyncio.sleep(POLL_SECONDS)
        raise SystemExit(f"{kind} {step}: the gate did not open within {STEP_SECONDS:g} s: {seen}")

    async def _take(self, rotation: RotationApi, step: RotationStep, seen: Rotation) -> None:
        try:
            await rotation.take(step, version=seen.version)
        except ApiError as error:
            raise SystemExit(f"{step}: {error} {list(error.details)}") from None

    async def forced(self, kind: str, step: RotationStep) -> None:
        """Take a step whatever its gate says."""
        await self._control_plane.account.rotation(kind).take(  # type: ignore[arg-type]
            step, force=True, reason="one agent sleeps"
        )
        self._figures.steps += 1


async def others_have_left(control_plane: ControlPlane, sleeper: str) -> None:
    while True:
        verdict = (await control_plane.account.rotation("ca").get()).next("retire")
        if verdict is not None and {laggard.name for laggard in verdict.laggards} <= {sleeper}:
            return
        await asyncio.sleep(POLL_SECONDS)


async def sleep_through(sandbox: Sandbox, control_plane: ControlPlane, rotator: Rotator, sleeper: str) -> float:
    """Stop an agent, rotate the authority to its end, and return how long the agent took to be online again."""
    pid, stopped_at = sandbox.pid(sleeper), time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    try:
        await rotator.steps("ca", "prepare")
        await asyncio.sleep(5)
        await rotator.forced("ca", "activate")
        await others_have_left(control_plane, sleeper)
        await rotator.forced("ca", "retire")
        await until(control_plane, sleeper, online=False)
        await asyncio.sleep(max(0.0, stopped_at + LINK_LOST_SECONDS - time.monotonic()))
    finally:
        os.kill(pid, signal.SIGCONT)
    began = time.monotonic()
    await until(control_plane, sleeper, online=True)
    return time.monotonic() - began


async def until(control_plane: ControlPlane, node: str, *, online: bool) -> None:
    workspace = control_plane.workspace("main")
    while ((await workspace.get_node(node)).state == "online") is not online:  # noqa: ASYNC110 - another process does it
        await asyncio.sleep(POLL_SECONDS)


async def soak(sandbox: Sandbox, *, nodes: int, per_second: float, authorities: int, keys: int) -> Figures:
    description, figures = sandbox.description, Figures()
    ca_file = Path(description["ca_file"])
    token = read(Path(description["admin_token_file"]))
    called = [f"vm-{number}" for number in range(1, nodes)]
    async with ControlPlane(description["control_plane_url"], token, ca_file=ca_file) as control_plane:
        load = asyncio.create_task(
            Load(control_plane, description["relay_url"], ca_file, figures).run(called, per_second)
        )
        rotator = Rotator(control_plane, figures)
        for number in range(1, authorities + 1):
            await rotator.steps("ca", "prepare", "activate", "retire")
            await rotator.steps("ca", "prepare", "rollback")
            await rotator.steps("ca", "prepare", "activate", "rollback", "retire")
            await rotator.steps("ca", "prepare", "activate", "rollback", "activate", "retire")
            print(f"authority {number} of {authorities}; {figures.so_far}", flush=True)
        await rotator.steps("signing-key", "prepare", "rollback")
        await rotator.steps("signing-key", "prepare", "activate", "rollback", "retire")
        print(f"signing key rolled back from every phase; {figures.so_far}", flush=True)
        for number in range(1, keys + 1):
            await rotator.steps("signing-key", "prepare", "activate", "retire")
            print(f"signing key {number} of {keys}; {figures.so_far}", flush=True)
        figures.back = await sleep_through(sandbox, control_plane, rotator, f"vm-{nodes}")
        load.cancel()
        with suppress(asyncio.CancelledError):
            await load
    return figures


def read(path: Path) -> str:
    return path.read_text().strip()


def links(sandbox: Sandbox, called: list[str]) -> tuple[int, int]:
    """How many links ended of themselves, and how many were handed over."""
    logs = "".join((sandbox.state / "log" / f"{node}.log").read_text() for node in called)
    return len(_LOST.findall(logs)), len(_REPLACED.findall(logs))


def show(figures: Figures, nodes: int, lost: int, replaced: int, seconds: float) -> None:
    ordered = sorted(figures.latencies)
    print(f"\nran {seconds:.0f} s with {nodes} agents; {figures.steps} steps of rotations")
    print(f"calls {figures.calls} ({figures.calls / seconds:.0f}/s), failed {figures.failures.total()}")
    for reason, count in figures.failures.most_common(5):
        print(f"  {count} × {reason}")
    print(f"call latency p50 {at(ordered, 0.5) * 1000:.1f} ms, p99 {at(ordered, 0.99) * 1000:.1f} ms")
    print(f"links lost {lost}, handed over as planned {replaced}")
    for step, waits in figures.adoption.items():
        waits.sort()
        print(f"  {step:<22} {len(waits):>3} ×, gate open after p50 {at(waits, 0.5):.1f} s, max {waits[-1]:.1f} s")
    print(f"an agent that was stopped through a rotation was online again after {figures.back or 0:.1f} s")


def at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak_rotation", description=__doc__)
    parser.add_argument("--nodes", type=int, default=50, help="agents; the last one is the sleeper")
    parser.add_argument("--calls-per-second", type=float, default=200.0)
    parser.add_argument("--authorities", type=int, default=1, help="how often the authority goes through every phase")
    parser.add_argument("--keys", type=int, default=20, help="how often the signing key is rotated")
    arguments = parser.parse_args()
    os.environ["TRUNKLINE_CONTROL_PLANE__COMMANDS__CALL_TIMEOUT_SECONDS"] = CALL_TIMEOUT_SECONDS
    with tempfile.TemporaryDirectory(prefix="trunkline-soak-") as directory:
        sandbox = Sandbox(Path(directory) / "state")
        state = ["--state", str(sandbox.state)]
        subprocess.run([TRUNKLINE, "up", "--detach", "--nodes", str(arguments.nodes), *state], check=True)
        began = time.monotonic()
        try:
            figures = asyncio.run(
                soak(
                    sandbox,
                    nodes=arguments.nodes,
                    per_second=arguments.calls_per_second,
                    authorities=arguments.authorities,
                    keys=arguments.keys,
                )
            )
            lost, replaced = links(sandbox, [f"vm-{number}" for number in range(1, arguments.nodes)])
        finally:
            subprocess.run([TRUNKLINE, "down", *state], check=False)
    show(figures, arguments.nodes, lost, replaced, time.monotonic() - began)
    late = figures.back is None or figures.back > SLEEPER_SECONDS
    return 1 if figures.failures or lost or late else 0


if __name__ == "__main__":
    sys.exit(main())
