"""The runbooks of rotation, as an operator follows them, on a running sandbox whose nodes are called all the time."""

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from certs.tls import client_context
from tests.support.sandboxes import Sandbox, running_sandbox, wait_until
from trunkline.client.control_plane import ControlPlane
from trunkline.client.errors import TrunklineError
from trunkline.client.node_sender import NodeSender

BACK_SECONDS = 60.0
TOKEN_SECONDS = 8.0


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox of this module's own: its signers change."""
    with running_sandbox(tmp_path_factory.mktemp("rotation") / "state") as running:
        yield running


def operator(sandbox: Sandbox) -> ControlPlane:
    """The control plane's client, as the operator."""
    description = sandbox.description
    token = Path(description["admin_token_file"]).read_text().strip()
    return ControlPlane(description["control_plane_url"], token, ca_file=description["ca_file"])


class Load:
    """Calls a node again and again from a thread of its own, with tokens of a few seconds, and keeps what failed."""

    def __init__(self, sandbox: Sandbox, node: str) -> None:
        self._sandbox = sandbox
        self._relay_url = sandbox.description["relay_url"]
        self._context = client_context(ca_file=Path(sandbox.description["ca_file"]))
        self._node = node
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.calls = 0
        self.failed: list[str] = []

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        async with operator(self._sandbox) as control_plane:
            workspace = control_plane.workspace("main")
            async with NodeSender(self._relay_url, ssl_context=self._context) as sender:
                while not self._stop.is_set():
                    issued = await workspace.create_call_token(
                        self._node, ["health:read"], lifetime_seconds=int(TOKEN_SECONDS)
                    )
                    await self._call_for_a_while(sender, issued.host or "", issued.token)

    async def _call_for_a_while(self, sender: NodeSender, host: str, token: str) -> None:
        until = time.monotonic() + TOKEN_SECONDS / 2
        while time.monotonic() < until and not self._stop.is_set():
            self.calls += 1
            try:
                response = await sender.request("GET", host, "/v1/health", token=token, timeout_seconds=10)
                await response.read()
                if response.status != 200:
                    self.failed.append(f"status {response.status}")
            except TrunklineError as error:
                self.failed.append(str(error))
            await asyncio.sleep(0.01)


@contextmanager
def stopped(sandbox: Sandbox, node: str) -> Iterator[None]:
    pid = sandbox.pid(node)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def links_lost(sandbox: Sandbox) -> int:
    logs = [(sandbox.state / "log" / f"vm-{number}.log").read_text() for number in (1, 2)]
    return sum(log.count("ending=lost") for log in logs)


def is_online(sandbox: Sandbox, node: str) -> bool:
    return bool(sandbox.json("node", "get", node)["state"] == "online")


def active(sandbox: Sandbox, kind: str) -> str:
    [signer] = [one for one in sandbox.json(kind, "status")["signers"] if one["active"]]
    return str(signer["signer_id"])


def works(sandbox: Sandbox) -> bool:
    finished = sandbox.trunkline("run", "--all", "--", "echo", "alive", check=False, timeout=30)
    return finished.returncode == 0 and finished.stdout.count(b"alive") == 2


@pytest.mark.parametrize("kind", ["ca", "signing-key"])
def test_runbook_rotate(sandbox: Sandbox, kind: str) -> None:
    before, lost = active(sandbox, kind), links_lost(sandbox)
    with Load(sandbox, "vm-1") as load:
        lines = sandbox.trunkline(kind, "rotate", "--auto", timeout=120).stdout.decode().splitlines()
    assert lines[0].startswith(f"{kind}: steady")
    assert lines[-1] == f"{kind}: steady"
    assert any("prepared; next: activate (may be taken)" in line for line in lines)
    assert any("activated; next: retire" in line for line in lines)
    assert active(sandbox, kind) != before
    assert (load.failed, links_lost(sandbox)) == ([], lost)
    assert load.calls > 100
    assert works(sandbox)


def test_runbook_rotate_the_authority_by_hand_and_back(sandbox: Sandbox) -> None:
    before, lost = active(sandbox, "ca"), links_lost(sandbox)

    def step(name: str) -> None:
        def taken() -> bool:
            return sandbox.trunkline("ca", name, check=False).returncode == 0

        wait_until(taken, f"everybody has followed, so that {name} can be taken", 60)

    with Load(sandbox, "vm-2") as load:
        for name in ("prepare", "rollback", "prepare", "activate", "rollback", "retire"):
            step(name)
    assert active(sandbox, "ca") == before
    assert (load.failed, links_lost(sandbox)) == ([], lost)
    assert works(sandbox)


def test_a_laggard_is_named_and_comes_back_when_it_wakes(sandbox: Sandbox) -> None:
    """An agent that sleeps through a whole rotation knows the old root only, and so does everybody's CA file here."""
    ca_file = Path(sandbox.description["ca_file"])
    old_roots = ca_file.read_bytes()
    with stopped(sandbox, "vm-2"):
        sandbox.trunkline("ca", "prepare")

        def named() -> bool:
            refused = sandbox.trunkline("ca", "activate", check=False)
            assert refused.returncode == os.EX_TEMPFAIL
            return b"node vm-2: has trust document" in refused.stderr and b"vm-1" not in refused.stderr

        wait_until(named, "vm-2 alone is waited for", 60)
        assert sandbox.trunkline("ca", "activate", "--force", check=False).returncode == os.EX_USAGE
        sandbox.trunkline("ca", "activate", "--force", "--reason", "vm-2 sleeps")

        def only_the_sleeper() -> bool:
            [retire] = [one for one in sandbox.json("ca", "status")["next_steps"] if one["step"] == "retire"]
            return [laggard["name"] for laggard in retire["laggards"]] == ["vm-2"]

        wait_until(only_the_sleeper, "everybody else has left the old authority", 60)
        sandbox.trunkline("ca", "retire", "--force", "--reason", "vm-2 sleeps")
        wait_until(lambda: not is_online(sandbox, "vm-2"), "vm-2 is missed", 60)
        relay = sandbox.kill("relay")  # the sleeper's link is gone: it has to dial with what it knows
        wait_until(lambda: sandbox.pid("relay") != relay, "the relay is started again")
        assert ca_file.read_bytes() != old_roots
        ca_file.write_bytes(old_roots)
    wait_until(lambda: is_online(sandbox, "vm-2"), "vm-2 is back", BACK_SECONDS)
    assert works(sandbox)


def test_runbook_compromised_key(sandbox: Sandbox) -> None:
    key = active(sandbox, "signing-key")
    token = sandbox.json("token", "call", "vm-1", "--scope", "health:read")
    revoked = sandbox.json("signing-key", "revoke", key, "--reason", "it was on a laptop")
    assert revoked["phase"] == "steady"
    assert active(sandbox, "signing-key") != key
    wait_until(lambda: works(sandbox), "nodes have come back by their certificates", 30)
    wait_until(lambda: all(is_online(sandbox, node) for node in ("vm-1", "vm-2")), "the control plane sees them")
    assert len(sandbox.json("node", "list")["nodes"]) == 2

    async def call() -> None:
        context = client_context(ca_file=Path(sandbox.description["ca_file"]))
        async with NodeSender(sandbox.description["relay_url"], ssl_context=context) as sender:
            await sender.request("GET", token["host"], "/v1/health", token=token["token"])

    with pytest.raises(TrunklineError) as refused:
        asyncio.run(call())
    assert getattr(refused.value, "status", None) in (401, 407)


def test_the_audit_has_every_step(sandbox: Sandbox) -> None:
    async def actions() -> set[str]:
        async with operator(sandbox) as control_plane:
            return {event.model_dump()["action"] async for event in control_plane.account.list_audit_events()}

    wanted = {"ca.prepare", "ca.activate", "ca.retire", "ca.rollback", "signing-key.retire", "signing-key.revoke"}
    assert wanted <= asyncio.run(actions())


def test_progress_for_programs(sandbox: Sandbox) -> None:
    output = sandbox.trunkline("ca", "rotate", "--auto", "-o", "json", timeout=120).stdout.decode()
    seen = [json.loads(line) for line in output.splitlines()]
    assert [one["phase"] for one in seen][-1] == "steady"
    assert {"prepared", "activated"} <= {one["phase"] for one in seen}


def test_no_log_of_any_daemon_has_a_traceback(sandbox: Sandbox) -> None:
    assert "Traceback" not in sandbox.logs()
