"""Two relays, and a third that comes and goes while nodes and senders run."""

import asyncio
import json
import os
import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sandboxes import TRUNKLINE, Sandbox, running_sandbox, wait_until
from trunkline.client.control_plane import ControlPlane

CALLERS = 8
NODES = ("vm-1", "vm-2")


@pytest.fixture(scope="module")
def two_relays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path_factory.mktemp("relays") / "state", relays=2) as running:
        yield running


def listeners(admin_url: str) -> int:
    """How many links of nodes a relay has."""
    with urllib.request.urlopen(f"{admin_url}/metrics", timeout=30) as answer:  # noqa: S310 - our own
        found = re.search(r'^trunkline_relay_links_open\{role="listener"\} (\S+)', answer.read().decode(), re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


def unmet(admin_url: str) -> dict[str, str]:
    """Which conditions keep a relay from being ready."""
    try:
        with urllib.request.urlopen(f"{admin_url}/readyz?verbose", timeout=30) as answer:  # noqa: S310 - our own
            conditions: dict[str, str] = json.loads(answer.read())["unmet"]
    except urllib.error.HTTPError as refusal:
        conditions = json.loads(refusal.read())["unmet"]
    return conditions


def wait_for_listeners(admin_url: str, count: int) -> None:
    """Wait until a relay has links of so many nodes."""
    wait_until(lambda: listeners(admin_url) == count, f"{count} nodes are at {admin_url}", 60)


def client(sandbox: Sandbox) -> ControlPlane:
    description = sandbox.description
    token = Path(description["admin_token_file"]).read_text().strip()
    return ControlPlane(description["control_plane_url"], token, ca_file=description["ca_file"])


def test_the_description_names_them_all(two_relays: Sandbox) -> None:
    description = two_relays.description
    assert len(description["relay_urls"]) == 2
    assert description["relay_urls"][0] == description["relay_url"]
    assert {"relay", "relay-2"} <= set(description["pids"])
    for role in ("relay", "relay-2"):
        wait_for_listeners(description["admin_urls"][role], 2)


class Load:
    """Calls to both nodes, one after the other by each of some callers, until told to stop."""

    def __init__(self) -> None:
        self.done = 0
        self.failures: list[str] = []
        self.stop = asyncio.Event()
        self._progress = asyncio.Event()

    async def run(self, control_plane: ControlPlane) -> None:
        nodes = [control_plane.node("main", name) for name in NODES]
        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(self._call(nodes[number % len(nodes)]))

    async def _call(self, node) -> None:
        while not self.stop.is_set():
            try:
                response = await node.request("GET", "/v1/health", scopes=("health:read",))
                await response.read()
                assert response.status == 200
            except Exception as error:  # noqa: BLE001 - whatever it is, the call has failed
                self.failures.append(f"{type(error).__name__}: {error}")
            self.done += 1
            self._progress.set()

    async def more(self, count: int) -> None:
        wanted = self.done + count
        async with asyncio.timeout(60):
            while self.done < wanted:
                self._progress.clear()
                await self._progress.wait()


def _wait_until_restarted(sandbox: Sandbox, role: str, before: int) -> None:
    wait_until(lambda: sandbox.pid(role) != before, f"{role} is started again")


def test_a_relay_that_drains_costs_no_call(two_relays: Sandbox) -> None:
    async def under_load() -> Load:
        load = Load()
        async with client(two_relays) as control_plane:
            running = asyncio.create_task(load.run(control_plane))
            await load.more(50)
            for role in ("relay", "relay-2"):
                before = two_relays.pid(role)
                os.kill(before, signal.SIGTERM)
                await asyncio.to_thread(_wait_until_restarted, two_relays, role, before)
                await asyncio.to_thread(wait_for_listeners, two_relays.description["admin_urls"][role], 2)
                await load.more(50)
            load.stop.set()
            await running
        return load

    load = asyncio.run(under_load())
    assert load.failures == []
    assert load.done >= 150


def test_running_nodes_find_a_new_relay_and_leave_a_deleted_one(two_relays: Sandbox, tmp_path: Path) -> None:
    token = two_relays.trunkline("token", "relay", "relay-3", "--dns-name", "localhost").stdout.strip()
    description = two_relays.description
    (tmp_path / "join-token").write_bytes(token)
    (tmp_path / "join-token").chmod(0o600)
    settings = tmp_path / "relay.toml"
    settings.write_text(
        f"state_directory = '{tmp_path}/state'\n"
        "[listen]\naddress = '127.0.0.1'\nport = 0\n[admin]\nport = 0\n"
        f"[control_plane]\nurl = '{description['control_plane_url']}'\nca_file = '{description['ca_file']}'\n"
        f"[enrolment]\nname = 'relay-3'\njoin_token_file = '{tmp_path}/join-token'\n"
    )
    with (tmp_path / "log").open("wb") as log:
        relay = subprocess.Popen([TRUNKLINE, "relay", "--config", str(settings)], stdout=log, stderr=log)
    try:
        endpoints = tmp_path / "state" / "endpoints.json"
        admin_url = wait_until(lambda: json.loads(endpoints.read_text())["admin_url"], "it is ready")
        wait_for_listeners(admin_url, 2)
        listed = two_relays.json("relays", "list")["relays"]
        [relay_id] = [one["relay_id"] for one in listed if one["name"] == "relay-3"]
        assert relay_id.encode() in two_relays.trunkline("relays", "delete", relay_id, "--yes").stdout
        wait_for_listeners(admin_url, 0)
        wait_until(lambda: "in_service" in unmet(admin_url), "it is not ready any more")
        assert listeners(two_relays.description["admin_urls"]["relay"]) == 2
    finally:
        relay.terminate()
        relay.wait(30)
