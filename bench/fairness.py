"""The row of two workspaces on one relay: what one that makes ten times the calls of its quota does to the other.

`python -m bench.fairness RELAY_PORT CREDENTIALS_FILE CALLS_PER_SECOND` is the one that makes them, and prints `up`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.build import Build
from bench.credentials import Credentials, load_nodes
from bench.legitimate import calling, percentile
from bench.machine import LOAD_CORE, pinned
from bench.relay import Relay, listening, running_relay
from bench.relay_state import metrics
from bench.rows import Row
from bench.target import Target
from certs.tls import client_context
from relay.admission.quotas import BURST_SECONDS

FAIRNESS = "small call beside a workspace at ten times its quota, p99"
QUOTA_CALLS_PER_SECOND = 200
TIMES = 10
CONNECTIONS = 20
GREEDY = "greedy"
REFUSED = 'trunkline_relay_admission_refusals_total{outcome="over_quota"}'
QUOTAS: Mapping[str, Any] = {f"ws-{GREEDY}": {"workspace": {"calls_per_second": QUOTA_CALLS_PER_SECOND}}}


def fairness(directory: Path, seconds: float, repetitions: int, build: Build) -> Row:
    """The 99th percentile of the modest workspace's calls, in terms of what it is without the greedy one.

    Raises:
        ExceptionGroup: a call of the modest workspace failed.
        RuntimeError: the greedy one was not refused as much as it should be, so that the run says nothing.
    """
    credentials = Credentials(directory / "credentials-of-two")
    greedy, modest = credentials.nodes(1, GREEDY), credentials.nodes(1, "modest")
    greedy_file = credentials.write_nodes(greedy, "greedy.json")
    both_file = credentials.write_nodes(greedy + modest, "both.json")
    row = Row(FAIRNESS, "times its quiet p99", 1.5, bound_is_ratio=False)
    with (
        running_relay(directory / "relay-of-two", credentials, build=build, quotas=QUOTAS) as relay,
        listening(relay, both_file, LOAD_CORE),
    ):
        target = Target(relay.port, credentials.client_context(), modest[0])
        for _ in range(repetitions):
            row.relay.append(asyncio.run(_slowdown(relay, target, greedy_file, seconds)))
    return row


async def _slowdown(relay: Relay, target: Target, greedy_file: Path, seconds: float) -> float:
    async with calling(target) as taken:
        await asyncio.sleep(seconds)
        quiet = percentile(taken, 0.99)
        with _greedy(relay, greedy_file):
            await asyncio.sleep(BURST_SECONDS)
            refused = (await metrics(relay.admin_url)).get(REFUSED, 0.0)
            taken.clear()
            await asyncio.sleep(seconds)
            beside = percentile(taken, 0.99)
        refused = (await metrics(relay.admin_url))[REFUSED] - refused
    if refused < QUOTA_CALLS_PER_SECOND * (TIMES - 2) * seconds:
        raise RuntimeError(f"only {refused:.0f} calls were refused in {seconds:g} s")
    return beside / quiet


@contextmanager
def _greedy(relay: Relay, greedy_file: Path) -> Iterator[None]:
    rate = QUOTA_CALLS_PER_SECOND * TIMES
    command = [sys.executable, "-m", "bench.fairness", str(relay.port), str(greedy_file), str(rate)]
    process = subprocess.Popen(pinned(LOAD_CORE, command), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "up":
            raise RuntimeError("the greedy workspace did not come up")
        yield
    finally:
        process.kill()
        process.communicate(timeout=10)


async def _call_for_ever(target: Target, per_second: float) -> None:
    """Call at that rate, whatever is answered."""
    connections = [await target.connect() for _ in range(CONNECTIONS)]
    print("up", flush=True)
    request = target.request("GET", "/small")
    interval = CONNECTIONS / per_second
    # Evenly spread: all connections at once, every ten milliseconds, would measure how long twenty calls take.
    began = asyncio.get_running_loop().time()
    starts = [began + number / per_second for number in range(CONNECTIONS)]
    await asyncio.gather(
        *(_call_on(request, start, interval, *each) for start, each in zip(starts, connections, strict=True))
    )


async def _call_on(
    request: bytes, due: float, interval_seconds: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(due - loop.time())
    while True:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        due += interval_seconds
        await asyncio.sleep(due - loop.time())


def main() -> None:
    port, credentials, per_second = sys.argv[1:]
    os.nice(19)
    roots, (node,) = load_nodes(Path(credentials))
    asyncio.run(_call_for_ever(Target(int(port), client_context(ca_file=roots), node), float(per_second)))


if __name__ == "__main__":
    main()
