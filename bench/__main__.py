"""`python -m bench`: measure everything, print the table, and write the figures to `bench/results`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from bench.build import Build
from bench.calls import Calls, running_backend
from bench.credentials import Credentials
from bench.fairness import FAIRNESS, fairness
from bench.far_bulk import FAR_BULK, far_bulk
from bench.fleet import FIRST_CALL, IDLE_CPU, first_call, idle_agents, idle_memory, many_idle_agents
from bench.machine import describe, take_all_files
from bench.nginx import running_nginx
from bench.real_agent import REAL_AGENT, real_agent, running_sandbox
from bench.relay import running_relay
from bench.rows import Row, table
from bench.workers import TWO_WORKERS, two_workers

RESULTS = Path(__file__).parent / "results"
NODES = 64
MANY = 10
"""Times as many agents as in the first rows of idle ones."""
SPARE_FILES = 1000
FAR = 3
"""Repetitions at most of what takes fifteen seconds each time."""
UNPACED = 1_000_000


def main() -> int:
    """Run it; the exit status is 0 whatever the figures are, since a busy machine is no failure."""
    options = _options()
    described = describe() | {"build": options.build}
    print(", ".join(f"{name} {value}" for name, value in described.items()), flush=True)
    rows = []
    with tempfile.TemporaryDirectory(prefix="trunkline-bench-") as directory:
        for row in measure(Path(directory), options):
            rows.append(row)
            print(table([row]).splitlines()[-1], flush=True)
    print("\n" + table(rows))
    if not options.quick and not options.only:
        write_results(rows, described)
    return 0


def measure(directory: Path, options: argparse.Namespace) -> Iterator[Row]:
    """Start what is needed and give each row as soon as it is measured."""
    seconds, repetitions, agents = (1, 1, 100) if options.quick else (options.seconds, options.repetitions, 1000)

    def wanted(name: str) -> bool:
        return options.only in name

    build = Build(options.build)
    credentials = Credentials(directory / "credentials")
    nodes = credentials.nodes(agents)
    one = credentials.write_nodes(nodes[:1], "one.json")
    identity = credentials.server_identity()
    with ExitStack() as stack:
        port = stack.enter_context(running_backend(identity))
        nginx = stack.enter_context(running_nginx(directory / "nginx", identity, identity, credentials.roots, port))
        # Where senders connect anew for each call, what that costs is measured, and not how it is paced.
        unpaced = {"handshakes_per_second": UNPACED}
        with running_relay(directory / "relay", credentials, options.event_loop, build, limits=unpaced) as relay:
            many = credentials.write_nodes(nodes[:NODES], "many.json")
            yield from Calls(relay, nginx, seconds, repetitions, wanted).rows(nodes[:NODES], one, many)
            if wanted(FAR_BULK):
                yield far_bulk(relay, nginx, one, nodes[0], credentials.client_context(), min(repetitions, FAR))
        if wanted(FAIRNESS):
            yield fairness(directory, seconds, repetitions, build)
        if wanted(TWO_WORKERS):
            one_worker = stack.enter_context(running_relay(directory / "one", credentials, options.event_loop, build))
            two = stack.enter_context(
                running_relay(directory / "two", credentials, options.event_loop, build, workers=2)
            )
            yield two_workers(one_worker, two, one, nodes[0], seconds, repetitions)
        if wanted(idle_memory(agents)) or wanted(IDLE_CPU):
            with running_relay(directory / "relay-idle", credentials, options.event_loop, build) as relay:
                yield from idle_agents(relay, credentials.write_nodes(nodes, "all.json"), agents)
        if wanted(idle_memory(MANY * agents)):
            yield from _many_idle(directory, credentials, options, MANY * agents)
        if wanted(FIRST_CALL):
            with running_relay(directory / "relay-killed", credentials, options.event_loop, build) as relay:
                yield first_call(relay, one, nodes[0], credentials.roots, max(3, repetitions))
        if wanted(REAL_AGENT):
            sandbox = stack.enter_context(running_sandbox(directory / "sandbox", build))
            yield real_agent(sandbox, nginx, seconds, repetitions)


def _many_idle(directory: Path, credentials: Credentials, options: argparse.Namespace, count: int) -> Iterator[Row]:
    if take_all_files() < count + SPARE_FILES:
        print(f"{idle_memory(count)}: not measured, too few files may be open (ulimit -n)", flush=True)
        return
    nodes = credentials.nodes(count)
    halves = [credentials.write_nodes(nodes[at::2], f"half-{at}.json") for at in range(2)]
    limits = {"handshakes_per_second": UNPACED}
    place = directory / "relay-many"
    with running_relay(place, credentials, options.event_loop, Build(options.build), limits=limits) as relay:
        yield many_idle_agents(relay, halves, count)


def write_results(rows: list[Row], described: dict[str, str]) -> None:
    """Keep the figures beside those of earlier runs."""
    now = datetime.now(UTC)
    RESULTS.mkdir(exist_ok=True)
    document = {"at": now.isoformat(), "machine": described, "rows": [row.as_json() for row in rows]}
    path = RESULTS / f"{now:%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    print(f"\n{path}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="The relay's data path against nginx.")
    parser.add_argument("--quick", action="store_true", help="one short round, 100 agents: a look, not a measurement")
    parser.add_argument("--repetitions", type=int, default=5, help="pairs of measurements for each row (default 5)")
    parser.add_argument("--seconds", type=int, default=2, help="length of one measurement (default 2)")
    parser.add_argument(
        "--build",
        choices=[build.value for build in Build],
        default=Build.best().value,
        help="of the relay: the Python files, or what `make compile` has built (the default where it has)",
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="only the rows whose name holds the text")
    parser.add_argument("--event-loop", choices=["auto", "uvloop", "asyncio"], default="auto", help="of the relay")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
