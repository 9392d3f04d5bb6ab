"""The rows that are measured under load: small calls and bulk, through the gateway door and the link door."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.credentials import NodeCredentials
from bench.machine import LOAD_CORE, cpu_seconds, first_priority, pinned
from bench.nginx import Nginx
from bench.relay import Relay, listening
from bench.rows import Row
from bench.wrk import Load, LoadError, Measured, run_wrk, running_wrk

BULK_BYTES = 16 * 1024 * 1024
UPLOAD_BYTES = 8 * 1024 * 1024
MICROSECONDS = "CPU-µs a call"
PER_MEGABYTE = "CPU-µs a MB"
SENDERS = 64
NEW_CONNECTIONS = 8
BULK_BESIDE = 4
WARM_UP_SECONDS = 1.0

Wanted = Callable[[str], bool]
"""Whether the row of that name is to be measured."""
Measurement = Callable[[str], Row]
"""Measures the row of that name."""


@contextmanager
def running_backend(identity: Path) -> Iterator[int]:
    """The backend behind nginx, on the load's core; its port is given."""
    command = [sys.executable, "-m", "bench.backend", str(identity)]
    process = subprocess.Popen(pinned(LOAD_CORE, command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate(timeout=10)


class Calls:
    """Measures nginx and the relay in turn, so that both see the machine in the same state."""

    def __init__(self, relay: Relay, nginx: Nginx, seconds: float, repetitions: int, wanted: Wanted) -> None:
        self._relay = relay
        self._nginx = nginx
        self._seconds = seconds
        self._repetitions = repetitions
        self._wanted = wanted

    def rows(self, nodes: list[NodeCredentials], one: Path, many: Path) -> Iterator[Row]:
        """The rows that are wanted, each as soon as it is measured."""
        with listening(self._relay, one, LOAD_CORE):
            yield from self._measured(self._with_one_node(nodes, one))
        with listening(self._relay, many, LOAD_CORE):
            yield from self._measured(self._with_many_nodes(nodes))

    def _measured(self, measurements: Mapping[str, Measurement]) -> Iterator[Row]:
        return (measure(name) for name, measure in measurements.items() if self._wanted(name))

    def _with_one_node(self, nodes: list[NodeCredentials], one: Path) -> Mapping[str, Measurement]:
        node = nodes[0]
        return {
            "small call, 64 senders on one node": lambda name: self._small(name, [node], SENDERS, 0.8),
            "small call, 1 sender, p50": lambda name: self._latency(name, node),
            "small call through the link door, 64 at once": lambda name: self._link_door(name, one),
            "bulk download, 1 at once": lambda name: self._bulk(name, node, 1, 0.8),
            "bulk download, 8 at once": lambda name: self._bulk(name, node, 8, 0.8),
            "bulk upload, 1 at once": lambda name: self._upload(name, node, 1, 0.8),
            "bulk upload, 8 at once": lambda name: self._upload(name, node, 8, 0.8),
            "small call on a new TLS connection": lambda name: self._new_connection(name, node),
            "small call beside bulk downloads on its link, p99": lambda name: self._beside_bulk(name, node),
        }

    def _with_many_nodes(self, nodes: list[NodeCredentials]) -> Mapping[str, Measurement]:
        return {
            "small call, 64 nodes with one sender each": lambda name: self._small(name, nodes, len(nodes), 1.1),
            "small call, 64 nodes with one sender each, heads that differ": lambda name: self._differing(name, nodes),
        }

    def _small(self, name: str, nodes: list[NodeCredentials], senders: int, bound: float) -> Row:
        requests = tuple((f"{node.gateway}/small", authorization(node)) for node in nodes)
        relay = Load(self._relay.url, {}, requests, connections=senders)
        nginx = Load(self._nginx.url + "/small", {}, connections=senders)
        row = Row(name, MICROSECONDS, bound)
        return self._compare(row, relay, nginx, lambda measured, _: measured.cpu_microseconds_per_request)

    def _differing(self, name: str, nodes: list[NodeCredentials]) -> Row:
        requests = tuple((f"{node.gateway}/small", authorization(node)) for node in nodes)
        relay = Load(self._relay.url, {}, requests, connections=len(nodes), differing=True)
        nginx = Load(self._nginx.url, {}, (("/small", {}),), connections=len(nodes), differing=True)
        row = Row(name, MICROSECONDS, 1.1)
        return self._compare(row, relay, nginx, lambda measured, _: measured.cpu_microseconds_per_request)

    def _new_connection(self, name: str, node: NodeCredentials) -> Row:
        close = {"Connection": "close"}
        headers = authorization(node) | close
        relay = Load(f"{self._relay.url}{node.gateway}/small", headers, connections=NEW_CONNECTIONS)
        nginx = Load(self._nginx.url + "/small", close, connections=NEW_CONNECTIONS)
        row = Row(name, MICROSECONDS, 2.0)
        return self._compare(row, relay, nginx, lambda measured, _: measured.cpu_microseconds_per_request)

    def _beside_bulk(self, name: str, node: NodeCredentials) -> Row:
        """How much longer the slowest hundredth of small calls takes while downloads fill the same link.

        The caller has its core whenever it wants it, so that it does not wait there for the node, which sends the bulk.
        """
        row = Row(name, "times its quiet p99", 5.0, bound_is_ratio=False)
        at = f"{self._relay.url}{node.gateway}"
        for _ in range(self._repetitions):
            row.relay.append(self._slowdown(at, authorization(node), self._relay.pid))
            row.nginx.append(self._slowdown(self._nginx.url, {}, self._nginx.pid))
        return row

    def _slowdown(self, at: str, headers: dict[str, str], pid: int) -> float:
        small = Load(f"{at}/small", headers, connections=1)
        first = first_priority()
        quiet = run_wrk(small, self._seconds, pid, priority=first).p99_milliseconds
        with running_wrk(Load(f"{at}/bulk/{BULK_BYTES}", headers, connections=BULK_BESIDE)):
            time.sleep(WARM_UP_SECONDS)
            return run_wrk(small, self._seconds, pid, priority=first).p99_milliseconds / quiet

    def _latency(self, name: str, node: NodeCredentials) -> Row:
        relay = Load(f"{self._relay.url}{node.gateway}/small", authorization(node), connections=1)
        nginx = Load(self._nginx.url + "/small", {}, connections=1)
        return self._compare(Row(name, "ms", 2.0), relay, nginx, lambda measured, _: measured.p50_milliseconds)

    def _bulk(self, name: str, node: NodeCredentials, streams: int, bound: float) -> Row:
        path = f"/bulk/{BULK_BYTES}"
        relay = Load(f"{self._relay.url}{node.gateway}{path}", authorization(node), connections=streams)
        nginx = Load(self._nginx.url + path, {}, connections=streams)
        return self._compare(Row(name, PER_MEGABYTE, bound), relay, nginx, lambda measured, _: _per_megabyte(measured))

    def _upload(self, name: str, node: NodeCredentials, streams: int, bound: float) -> Row:
        options = {"connections": streams, "body_bytes": UPLOAD_BYTES}
        relay = Load(f"{self._relay.url}{node.gateway}/upload", authorization(node), **options)  # type: ignore[arg-type]
        nginx = Load(self._nginx.url + "/upload", {}, **options)  # type: ignore[arg-type]
        row = Row(name, PER_MEGABYTE, bound)
        return self._compare(row, relay, nginx, lambda measured, load: _per_megabyte(measured, load.body_bytes))

    def _compare(self, row: Row, relay: Load, nginx: Load, figure: Callable[[Measured, Load], float]) -> Row:
        run_wrk(relay, 1, self._relay.pid)
        run_wrk(nginx, 1, self._nginx.pid)
        for _ in range(self._repetitions):
            row.relay.append(figure(run_wrk(relay, self._seconds, self._relay.pid), relay))
            row.nginx.append(figure(run_wrk(nginx, self._seconds, self._nginx.pid), nginx))
        return row

    def _link_door(self, name: str, one: Path) -> Row:
        row = Row(name, MICROSECONDS, 0.55)
        nginx = Load(self._nginx.url + "/small", {}, connections=SENDERS)
        for _ in range(self._repetitions):
            row.relay.append(self._send(one))
            row.nginx.append(run_wrk(nginx, self._seconds, self._nginx.pid).cpu_microseconds_per_request)
        return row

    def _send(self, one: Path) -> float:
        command = [sys.executable, "-m", "bench.sender", self._relay.url, str(one), str(SENDERS), str(self._seconds)]
        before = cpu_seconds(self._relay.pid)
        answer = subprocess.run(pinned(LOAD_CORE, command), capture_output=True, text=True, check=False)
        used = cpu_seconds(self._relay.pid) - before
        result = json.loads(answer.stdout or '{"failures": 1}')
        if result["failures"]:
            raise LoadError(f"{result} {answer.stderr[-500:]}")
        calls: int = result["calls"]
        return used / calls * 1e6


def authorization(node: NodeCredentials) -> dict[str, str]:
    """What the gateway door asks for."""
    return {"Authorization": f"Bearer {node.call_token}"}


def _per_megabyte(measured: Measured, body_bytes: int = 0) -> float:
    moved = measured.requests * body_bytes or measured.response_bytes
    return measured.cpu_seconds / moved * 1e12
