"""A relay of a parent and two workers: one relay to everybody, whichever of them a node or a sender lands on."""

import contextlib
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bench.ports import kept_port
from tests.support.raw_calls import RawConnection
from tests.support.sandboxes import wait_until
from tests.support.small_fleet import SmallFleet

pytestmark = pytest.mark.timeout(300)

NODES = ("vm-1", "vm-2", "vm-3")
CONNECTIONS = 20
"""As many land on both workers, but for one time in half a million."""
CUT_SECONDS = 30.0
HEALTH = ("GET /v1/health", "Host: agent", "Connection: close")


class WorkersFleet:
    """A fleet with a relay of two workers, and what is seen of those."""

    def __init__(self, root: Path) -> None:
        self.fleet = SmallFleet(root, workers=2, relay_port=kept_port(), life_seconds=3600)
        self._tokens: dict[str, dict[str, str]] = {}

    def begin(self) -> None:
        """Start everything, with nodes on both workers."""
        self.fleet.begin()
        for node in NODES:
            self.fleet.join(node)
        for _ in range(20):
            if len({self.worker_of(node) for node in NODES}) == 2:
                break
            self.fleet.kill(NODES[0])
            self.fleet.start(NODES[0])

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the relay has logged under this name; a line that it is about to write is none yet."""
        lines = self.fleet.log("relay").rpartition("\n")[0].splitlines()
        return [entry for line in lines if (entry := json.loads(line)).get("event") == name]

    def worker_of(self, node: str) -> int:
        """The worker that a node attached to last."""
        attached = [entry for entry in self.events("link.attached") if entry["node"] == node]
        return int(attached[-1]["worker"])

    def pids(self) -> dict[int, int]:
        """The processes of the workers, in the order in which they were started."""
        tasks = Path(f"/proc/{self.fleet.processes['relay'].pid}/task").iterdir()
        children = sorted(int(pid) for task in tasks for pid in (task / "children").read_text().split())
        return dict(enumerate(children, start=1))

    def token(self, node: str) -> dict[str, str]:
        """A call token for a node; the same each time."""
        if node not in self._tokens:
            self._tokens[node] = json.loads(self.fleet.trunkline("token", "call", node, "-o", "json"))
        return self._tokens[node]

    def connect(self) -> RawConnection:
        """A new connection to the relay, at either worker."""
        return RawConnection(self.fleet.endpoints("relay")["url"], str(self.fleet.state("control-plane") / "ca.pem"))

    def listens(self) -> bool:
        """Whether anybody does on the relay's port."""
        try:
            self.connect().__exit__()
        except OSError:
            return False
        return True

    def status(self, node: str) -> int:
        """What a call to a node's agent is answered, over a connection of its own."""
        with self.connect() as connection:
            token = self.token(node)["token"]
            line = f"GET /v1/workspaces/finance/nodes/{node}/v1/health"
            fields = (f"Host: {connection.host}", f"Authorization: Bearer {token}", "Connection: close")
            return connection.request(line, *fields).status

    def readiness(self) -> int:
        """What a load balancer is told on the relay's port, by either worker."""
        with self.connect() as connection:
            return connection.request("GET /v1/ready", f"Host: {connection.host}").status

    def tunnel(self, stack: contextlib.ExitStack, node: str) -> RawConnection:
        """Raw bytes to a node's agent, through either worker."""
        connection = stack.enter_context(self.connect())
        token = self.token(node)
        host = f"{token['host']}:80"
        fields = (f"Host: {host}", f"Proxy-Authorization: Bearer {token['token']}")
        assert connection.request(f"CONNECT {host}", *fields).status == 200
        return connection

    def metric(self, name: str) -> float:
        """The sum of a metric's samples of this name, as the relay's page has them."""
        with urllib.request.urlopen(self.fleet.endpoints("relay")["admin_url"] + "/metrics", timeout=30) as answer:  # noqa: S310
            page = answer.read().decode()
        samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
        return sum(sample.value for sample in samples if sample.name == f"trunkline_relay_{name}")


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkersFleet]:
    running = WorkersFleet(tmp_path_factory.mktemp("workers"))
    try:
        running.begin()
        yield running
    finally:
        running.fleet.end()


def test_every_node_is_reached_through_either_worker_and_one_page_counts_it(relay: WorkersFleet) -> None:
    assert {relay.worker_of(node) for node in NODES} == {1, 2}
    calls, hops = relay.metric("calls_total"), relay.metric("hops_total")
    assert [relay.status(node) for _ in range(CONNECTIONS) for node in NODES] == [200] * CONNECTIONS * len(NODES)
    hopped = relay.metric("hops_total") - hops
    assert hopped > 0
    # The control plane looks after its nodes meanwhile.
    assert relay.metric("calls_total") - calls >= CONNECTIONS * len(NODES)
    assert relay.metric("links_open") >= len(NODES)
    assert relay.metric("workers_up") == 2
    assert all(relay.fleet.works(node) for node in NODES)


def test_load_balancers_are_told_by_each_worker_that_the_relay_is_ready(relay: WorkersFleet) -> None:
    wait_until(lambda: {relay.readiness() for _ in range(CONNECTIONS)} == {200}, "every worker has heard of it")


def test_a_revocation_cuts_at_both_workers_and_is_reported_as_one_sum(relay: WorkersFleet) -> None:
    with contextlib.ExitStack() as stack:
        node = NODES[0]
        tunnels = [relay.tunnel(stack, node) for _ in range(CONNECTIONS)]
        told = relay.fleet.trunkline("revoke", "token", relay.token(node)["token_id"], "-o", "json")
        for tunnel in tunnels:
            assert tunnel.ended(within_seconds=CUT_SECONDS)
    assert relay.status(node) == 401
    del relay._tokens[node]
    [reported] = [found["streams"] for found in objects_with(json.loads(told), "streams")]
    assert reported == CONNECTIONS
    assert {entry["worker"] for entry in relay.events("relay.cut")} == {1, 2}


def objects_with(document: Any, key: str) -> list[dict[str, int]]:
    """The objects in a document that have a member of this name."""
    if isinstance(document, dict):
        own = [document] if key in document else []
        return own + [found for value in document.values() for found in objects_with(value, key)]
    return [found for value in document for found in objects_with(value, key)] if isinstance(document, list) else []


def test_a_worker_that_dies_takes_only_its_own_links_along(relay: WorkersFleet) -> None:
    dead = relay.worker_of(NODES[0])
    kept = [node for node in NODES if relay.worker_of(node) != dead]
    calls = relay.metric("calls_total")
    with contextlib.ExitStack() as stack:
        tunnels = [relay.tunnel(stack, node) for node in kept for _ in range(CONNECTIONS)]
        os.kill(relay.pids()[dead], signal.SIGKILL)
        wait_until(
            lambda: (relay.metric("worker_restarts_total"), relay.metric("workers_up")) == (1, 2), "the worker is back"
        )
        wait_until(lambda: all(relay.status(node) == 200 for node in NODES), "all nodes are back")
        alive = [tunnel for tunnel in tunnels if not tunnel.ended(within_seconds=0.05)]
        # Those that came in at the living worker, which has the node's link.
        assert 0 < len(alive) < len(tunnels)
        assert all(
            tunnel.request("GET /v1/health", "Host: x", "Connection: close").status in (200, 401) for tunnel in alive
        )
    assert all(relay.worker_of(node) != dead for node in kept)
    assert relay.metric("calls_total") >= calls


def test_a_drain_lets_what_is_under_way_finish_and_tells_of_it(relay: WorkersFleet) -> None:
    admin_url = relay.fleet.endpoints("relay")["admin_url"]
    with contextlib.ExitStack() as stack:
        tunnels = [relay.tunnel(stack, node) for node in NODES for _ in range(4)]
        running = relay.fleet.processes.pop("relay")
        running.terminate()

        def left() -> int:
            try:
                with urllib.request.urlopen(f"{admin_url}/readyz?verbose", timeout=30) as answer:  # noqa: S310
                    document = json.loads(answer.read())
            except urllib.error.HTTPError as refused:
                document = json.loads(refused.read())
            return int(document["left"]["calls_open"])

        wait_until(lambda: left() >= len(tunnels), "what is left is told")
        wait_until(lambda: not relay.listens(), "the ports are closed")
        assert {tunnel.request(*HEALTH).status for tunnel in tunnels} == {200}
    assert running.wait(timeout=20) == 0
    assert {entry["calls_cut"] for entry in relay.events("relay.drained")} == {0}
    entries = [json.loads(line) for line in relay.fleet.log("relay").splitlines()]
    errors = {entry["event"] for entry in entries if entry["level"] == "error"}
    assert errors <= {"worker.ended"}  # of the worker that another test has killed


def test_a_parent_that_dies_takes_its_workers_along_and_a_new_one_serves_at_once(relay: WorkersFleet) -> None:
    relay.fleet.start("relay")
    wait_until(lambda: all(relay.status(node) == 200 for node in NODES), "all nodes are back")
    workers = [Path(f"/proc/{pid}") for pid in relay.pids().values()]
    relay.fleet.kill("relay")
    wait_until(lambda: not any(worker.exists() for worker in workers), "the workers have ended")
    relay.fleet.start("relay")
    wait_until(lambda: all(relay.status(node) == 200 for node in NODES), "all nodes are back")
