"""A relay without enough memory or CPU: `python -m bench.soak_starved`, or `make soak-starved`; as root, cgroup v1.

With 256 MiB: three thousand slow peers, and eight links on which two hundred downloads are not read. With a tenth of a
processor: twenty callers in good order. Prints what the relay remarks of itself meanwhile, the most memory that it had,
how long a call of somebody who was there before took, and after how many seconds, once the cause had ended, calls were
answered and nothing was left to remark. Exits 1 if it died, a call failed (other than by 503), or it took longer than
five seconds.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.attack import UNREAD_WINDOWS
from bench.build import Build
from bench.cgroups import cpu_of, memory_of, out_of, within
from bench.credentials import Credentials
from bench.legitimate import calling, percentile
from bench.machine import IDLE_PRIORITY, LOAD_CORE, pin, pinned
from bench.relay import Relay, listening, running_relay
from bench.relay_state import metrics, readiness
from bench.target import Target

MEMORY_BYTES = 256 * 1024 * 1024
CPU_SHARE = 0.1
SLOW_PEERS = 3000
UNREAD_LINKS = 8
CALLERS = 20
STARVED_SECONDS = 15.0
RECOVERY_SECONDS = 5.0
LOOK_SECONDS = 0.25


class Starved:
    """One relay in its group, and somebody who calls it all the while."""

    def __init__(self, relay: Relay, target: Target, nodes_file: Path) -> None:
        self.relay = relay
        self.target = target
        self._nodes_file = nodes_file
        self._remarks: dict[str, str] = {}

    async def watch(self, seconds: float) -> None:
        """Keep what it remarks of itself."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            await self._look()
            await asyncio.sleep(LOOK_SECONDS)

    async def recovered(self) -> float:
        """After how many seconds it answers on a new connection and remarks nothing; four times the bound at most."""
        began = time.monotonic()
        while time.monotonic() - began < 4 * RECOVERY_SECONDS:
            async with calling(self.target, shed=True):
                pass
            if not await self._look():
                break
            await asyncio.sleep(LOOK_SECONDS)
        return time.monotonic() - began

    async def _look(self) -> dict[str, str]:
        """Its remarks, without that there is no control plane here."""
        remarks: dict[str, str] = (await readiness(self.relay.admin_url)).get("remarks", {})
        remarks.pop("trust_document", None)
        self._remarks |= remarks
        return remarks

    async def told(self, name: str, taken: list[float], recovered: float, **more: Any) -> bool:
        """Print what was seen; returns whether it was as it should be."""
        print(f"{name}:")
        for what, remark in self._remarks.items():
            print(f"  it remarked: {what}: {remark}")
        for what, value in more.items():
            print(f"  {what.replace('_', ' ')}: {value}")
        print(f"  {len(taken)} calls, none failed otherwise than by 503; p50 {percentile(taken, 0.5) * 1e3:.1f} ms, "
              f"slowest {max(taken):.2f} s; recovered after {recovered:.1f} s", flush=True)  # fmt: skip
        return recovered <= RECOVERY_SECONDS

    @contextmanager
    def attacked(self, *attacks: tuple[str, int]) -> Iterator[None]:
        """Attackers, for as long as the block lasts."""
        with ExitStack() as stack:
            for name, count in attacks:
                arguments = [str(self.target.port), str(self._nodes_file), name, str(count)]
                command = pinned(LOAD_CORE, [*IDLE_PRIORITY, sys.executable, "-m", "bench.attack", *arguments])
                process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                stack.callback(process.wait, 10)
                stack.callback(process.kill)
            yield


@contextmanager
def starved(directory: Path, group: Path) -> Iterator[Starved]:
    """A relay in a group, and a node behind it that is not."""
    credentials = Credentials(directory / f"credentials-{group.parent.name}")
    (node,) = credentials.nodes(1)
    nodes_file = credentials.write_nodes([node], "nodes.json")
    place = directory / f"relay-{group.parent.name}"
    with (
        running_relay(place, credentials, build=Build.best(), within=within(group)) as relay,
        listening(relay, nodes_file, LOAD_CORE),
    ):
        yield Starved(relay, Target(relay.port, credentials.client_context(), node), nodes_file)


async def little_memory(stage: Starved, group: Path) -> bool:
    """Slow peers and unread downloads, more than the memory has room for."""
    async with calling(stage.target, shed=True) as taken:
        attacks = [("slow head", SLOW_PEERS), *[(UNREAD_WINDOWS, 1)] * UNREAD_LINKS]
        with stage.attacked(*attacks):
            await stage.watch(STARVED_SECONDS)
            numbers = await metrics(stage.relay.admin_url)
        recovered = await stage.recovered()
    most = int((group / "memory.max_usage_in_bytes").read_text()) >> 20
    cut = sum(value for name, value in numbers.items() if name.startswith("trunkline_relay_streams_cut_total"))
    return await stage.told("256 MiB", taken, recovered, most_MiB=most, streams_cut=round(cut))


async def little_cpu(stage: Starved, group: Path) -> bool:
    """More calls than a tenth of a processor can carry, and then a whole one."""
    async with AsyncExitStack() as callers:
        taken = [await callers.enter_async_context(calling(stage.target)) for _ in range(CALLERS)]
        await stage.watch(STARVED_SECONDS)
        out_of(group, stage.relay.pid)
        recovered = await stage.recovered()
    return await stage.told("a tenth of a processor", [each for one in taken for each in one], recovered)


def main() -> int:
    pin(os.getpid(), LOAD_CORE)
    with tempfile.TemporaryDirectory(prefix="trunkline-starved-") as name:
        directory = Path(name)
        with memory_of(MEMORY_BYTES) as group, starved(directory, group) as stage:
            survived = asyncio.run(little_memory(stage, group))
        with cpu_of(CPU_SHARE) as group, starved(directory, group) as stage:
            return 0 if asyncio.run(little_cpu(stage, group)) and survived else 1


if __name__ == "__main__":
    sys.exit(main())
