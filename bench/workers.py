"""The row about workers: what a call costs two of them together, in terms of what it costs one."""

from __future__ import annotations

from pathlib import Path

from bench.calls import SENDERS, authorization
from bench.credentials import NodeCredentials
from bench.machine import LOAD_CORE
from bench.relay import Relay, listening
from bench.rows import Row
from bench.wrk import Load, run_wrk

TWO_WORKERS = "small call, 64 senders on one node, 2 workers"


def two_workers(
    one: Relay, two: Relay, credentials_file: Path, node: NodeCredentials, seconds: float, repetitions: int
) -> Row:
    """The same load on a relay of one process and on one of a parent and two workers, in turn, all on the same core.

    About half of the connections land at the worker that has not got the node's link, so half of the calls hop.
    """
    row = Row(TWO_WORKERS, "times one worker", 1.4, bound_is_ratio=False)
    loads = {
        relay: Load(f"{relay.url}{node.gateway}/small", authorization(node), connections=SENDERS)
        for relay in (one, two)
    }
    with listening(one, credentials_file, LOAD_CORE), listening(two, credentials_file, LOAD_CORE):
        for relay, load in loads.items():
            run_wrk(load, 1, *relay.pids)
        for _ in range(repetitions):
            cost = {relay: run_wrk(load, seconds, *relay.pids) for relay, load in loads.items()}
            row.relay.append(cost[two].cpu_microseconds_per_request / cost[one].cpu_microseconds_per_request)
    return row
