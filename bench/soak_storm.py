"""A storm, bounded: `python -m bench.soak_storm`, or `make soak-storm`; about a minute.

A relay with real TLS links is killed and started again, a few times. Prints after how long how many of the links were
back, counted from the open port, how many handshakes began in the busiest second, and what calls cost meanwhile that go
over a kept-alive connection to a node that is back already. Exits 1 if 99 % took longer than `--bound` seconds, or more
handshakes began in a second than the budget.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ssl
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from bench.build import Build
from bench.calls import authorization
from bench.credentials import Credentials, NodeCredentials
from bench.machine import LOAD_CORE, cpu_seconds
from bench.relay import Relay, listening, running_relay
from relay.settings import LimitsSettings

SAMPLE_SECONDS = 0.25
PAUSE_SECONDS = 0.02
LONGEST_SECONDS = 120.0
SENDERS_ADDRESS = "127.0.0.2"
COUNTERS = ("handshakes_total", "handshakes_paced_total", "connections_refused_total", "handshake_failures_total")


@dataclass
class Storm:
    """What was seen of one; times in seconds, from the open port."""

    opened_at: float
    back: list[float] = field(default_factory=list)
    begun: list[tuple[float, float]] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    counters: dict[str, float] = field(default_factory=dict)
    lag: float = 0.0
    first_call: float = 0.0
    relay_cpu: float = 0.0

    def after(self, share: float) -> float:
        """After how long this share of the links was back."""
        return sorted(self.back)[max(0, round(len(self.back) * share) - 1)]

    @property
    def most_in_a_second(self) -> float:
        """How many handshakes began in the busiest second, as far as samples tell."""
        most, samples = 0.0, [(self.opened_at, 0.0), *self.begun]
        for number, (began, before) in enumerate(samples):
            for at, count in samples[number:]:
                if at - began >= 1.0:
                    most = max(most, (count - before) / (at - began))
                    break
        return most

    def show(self) -> None:
        """Print it."""
        quantiles = ", ".join(f"{share:.0%} after {self.after(share):.2f} s" for share in (0.5, 0.9, 0.99, 1.0))
        ordered = sorted(self.latencies)
        p50, p99 = (ordered[int(len(ordered) * share)] * 1e3 for share in (0.5, 0.99))
        print(f"back: {quantiles}; relay {self.relay_cpu / max(self.back):.0%} of its core")
        print(f"  handshakes in the busiest second: {self.most_in_a_second:.0f}; ", end="")
        print(", ".join(f"{name} {count:.0f}" for name, count in self.counters.items()))
        print(f"  the relay's loop was never later than {self.lag * 1e3:g} ms (the bound of the last bucket)")
        print(f"  first call after {self.first_call:.2f} s; then {len(ordered)} calls, p50 {p50:.1f}, p99 {p99:.1f} ms")


def samples(relay: Relay) -> list[Sample]:
    """The relay's metrics."""
    with urllib.request.urlopen(f"{relay.admin_url}/metrics", timeout=10) as answer:  # noqa: S310 - loopback
        text = answer.read().decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def counters(relay: Relay) -> dict[str, float]:
    """The relay's counters that are shown, each over all of its labels."""
    found = dict.fromkeys(COUNTERS, 0.0)
    for sample in samples(relay):
        name = sample.name.removeprefix("trunkline_relay_")
        if name in found:
            found[name] += sample.value
    return found


def longest_lag(relay: Relay) -> float:
    """The bound, in seconds, of the last bucket in which the relay's event loop has ever been late."""
    name = "trunkline_relay_event_loop_lag_seconds_bucket"
    buckets = [(float(one.labels["le"]), one.value) for one in samples(relay) if one.name == name]
    most = max(count for _, count in buckets)
    return min(bound for bound, count in buckets if count == most)


class Caller:
    """Calls a node again and again over a kept-alive connection, from an address of its own."""

    def __init__(self, relay: Relay, node: NodeCredentials, context: ssl.SSLContext) -> None:
        self._place = urlsplit(relay.url)
        self._context = context
        lines = [f"GET {node.gateway}/small HTTP/1.1", f"Host: {self._place.netloc}"]
        lines += [f"{name}: {value}" for name, value in authorization(node).items()]
        self._request = ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def run(self, storm: Storm) -> None:
        """Call until cancelled; the first that succeeds is told apart from those after it."""
        while True:
            await self._run_on_one(storm)

    async def _run_on_one(self, storm: Storm) -> None:
        """Call over one connection, until its answer says that it is closed: as behind 32 refusals in a row."""
        reader, writer = await asyncio.open_connection(
            self._place.hostname, self._place.port, ssl=self._context, local_addr=(SENDERS_ADDRESS, 0)
        )
        try:
            while True:
                began = time.monotonic()
                writer.write(self._request)
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(_content_length(head))
                if head.startswith(b"HTTP/1.1 200 "):
                    if storm.first_call:
                        storm.latencies.append(time.monotonic() - began)
                    else:
                        storm.first_call = time.monotonic() - storm.opened_at
                await asyncio.sleep(PAUSE_SECONDS)
                if b"connection: close" in head.lower():
                    return
        finally:
            writer.transport.abort()


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


async def watch(relay: Relay, storm: Storm, times: Path, skip: int, count: int, caller: Caller) -> None:
    """Wait until all links are back, and calls have been made.

    Raises:
        TimeoutError: they are not in time; or what ended the calls.
    """
    calling = asyncio.create_task(caller.run(storm))
    used = cpu_seconds(relay.pid)
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            while len(back := _back_since(times, skip)) < count or not storm.latencies:
                if calling.done():
                    await calling
                with contextlib.suppress(OSError):  # its address is told a moment after its port is open
                    storm.counters = await asyncio.to_thread(counters, relay)
                    storm.begun.append((time.monotonic(), storm.counters["handshakes_total"]))
                await asyncio.sleep(SAMPLE_SECONDS)
    finally:
        calling.cancel()
    storm.relay_cpu = cpu_seconds(relay.pid) - used
    storm.counters = await asyncio.to_thread(counters, relay)
    storm.lag = await asyncio.to_thread(longest_lag, relay)
    storm.back = [at - storm.opened_at for at in back]


def _back_since(times: Path, skip: int) -> list[float]:
    return [float(line.split()[0]) for line in times.read_text().splitlines()[skip:]]


def soak(arguments: argparse.Namespace, directory: Path) -> bool:
    """Run it all; returns whether the bounds held."""
    credentials = Credentials(directory / "credentials")
    called, *nodes = credentials.nodes(arguments.links)
    nodes_file, times = credentials.write_nodes(nodes, "nodes.json"), directory / "times"
    called_file = credentials.write_nodes([called], "called.json")
    limits = {"handshakes_per_second": arguments.budget}
    storms = []
    with running_relay(directory / "relay", credentials, "auto", Build.best(), limits=limits) as relay:
        caller = Caller(relay, called, credentials.client_context())
        # The node that is called has a process of its own: that of the others is busy with their handshakes.
        with listening(relay, called_file, LOAD_CORE), listening(relay, nodes_file, LOAD_CORE, times):
            for _ in range(arguments.kills):
                skip = len(times.read_text().splitlines())
                relay.kill()
                storm = Storm(relay.start())
                asyncio.run(watch(relay, storm, times, skip, len(nodes), caller))
                storm.show()
                storms.append(storm)
    return _held(storms, arguments)


def _held(storms: Sequence[Storm], arguments: argparse.Namespace) -> bool:
    late = [storm for storm in storms if storm.after(0.99) > arguments.bound]
    fast = [storm for storm in storms if storm.most_in_a_second > arguments.budget]
    print(f"{len(storms)} storms of {arguments.links} links; late: {len(late)}, over the budget: {len(fast)}")
    return not late and not fast


def main() -> int:
    """Run the soak from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--links", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--bound", type=float, default=15.0, metavar="SECONDS", help="for 99 %% of the links")
    parser.add_argument(
        "--budget",
        type=int,
        default=LimitsSettings().handshakes_per_second,
        help="limits.handshakes_per_second of the relay",
    )
    with tempfile.TemporaryDirectory(prefix="trunkline-storm-") as directory:
        return 0 if soak(parser.parse_args(), Path(directory)) else 1


if __name__ == "__main__":
    sys.exit(main())
