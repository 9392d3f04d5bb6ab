"""Revocation and locks while streams run: theirs are cut, everywhere and at once, and nobody else's.

With TRUNKLINE_SOAK=1 (`make soak-revocation`) a thousand streams run, and the times are printed.
"""

import asyncio
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from certs.tls import client_context
from tests.support.node_services import echo_service
from tests.support.sandboxes import Sandbox, allow_ports, wait_until
from tests.support.streams import open_streams
from trunkline.client.errors import RelayRefused
from trunkline.client.node_sender import NodeSender

STREAMS = 1000 if os.environ.get("TRUNKLINE_SOAK") else 120
ENDED_SECONDS = 30.0


def token_for(sandbox: Sandbox, node: str, *scopes: str) -> dict[str, str]:
    words = [word for scope in scopes for word in ("--scope", scope)]
    token: dict[str, str] = sandbox.json("token", "call", node, *words)
    return token


def status_of(sandbox: Sandbox, token: dict[str, str]) -> tuple[int, str]:
    """What a call to the agent's own API is answered, and by whom: the status, and the relay's outcome."""
    description = sandbox.description

    async def call() -> tuple[int, str]:
        context = client_context(ca_file=Path(description["ca_file"]))
        async with NodeSender(description["relay_url"], ssl_context=context, link_timeout_seconds=10) as sender:
            try:
                response = await sender.request("GET", token["host"], "/v1/health", token=token["token"])
                await response.read()
            except RelayRefused as error:
                return error.status, str(error)
            return response.status, ""

    return asyncio.run(call())


def printed(what: str, times: list[float]) -> None:
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    sys.stdout.write(
        f"\n{what}: {len(ordered)} streams, p50 {ordered[len(ordered) // 2]:.3f} s, p99 {p99:.3f} s, "
        f"slowest {ordered[-1]:.3f} s\n"
    )


@pytest.fixture(scope="module")
def runs(fragile_sandbox: Sandbox) -> Sandbox:
    return fragile_sandbox


async def test_a_revoked_tokens_streams_are_cut_and_nobody_elses(runs: Sandbox) -> None:
    async with echo_service() as port:
        for node in ("vm-1", "vm-2"):
            await asyncio.to_thread(allow_ports, runs, node, [port])
        scope = f"port:{port}"
        theirs, same_node, other_node = [
            await asyncio.to_thread(token_for, runs, node, scope) for node in ("vm-1", "vm-1", "vm-2")
        ]
        async with (
            open_streams(runs, theirs, port, STREAMS // 2) as cut,
            open_streams(runs, same_node, port, STREAMS // 4) as kept,
            open_streams(runs, other_node, port, STREAMS // 4) as kept_elsewhere,
        ):
            cut.watch()
            began = time.monotonic()
            revoking = asyncio.to_thread(runs.trunkline, "revoke", "token", theirs["token_id"], "--timeout", "60")
            finished = (await asyncio.gather(revoking, cut.all_ended(ENDED_SECONDS)))[0]
            printed("from the start of `trunkline revoke`", [at - began for at in cut.ended_at])
            said = finished.stdout.decode()
            sys.stdout.write(said)
            assert len(cut.ended_at) == STREAMS // 2
            assert f"relay relay-1: cut 1 link, {STREAMS // 2} streams, 0 exchanges, reported after" in said
            # The agent may have noticed that the relay cut a stream before the document came, and counts only its own.
            assert await kept.echoing() == STREAMS // 4
            assert await kept_elsewhere.echoing() == STREAMS // 4
        assert (await asyncio.to_thread(status_of, runs, theirs))[0] == 401


async def test_a_locked_nodes_calls_are_cut_and_refused_until_it_is_lifted(runs: Sandbox) -> None:
    pids = {role: runs.pid(role) for role in ("relay", "vm-1", "vm-2")}
    async with echo_service() as port:
        for node in ("vm-1", "vm-2"):
            await asyncio.to_thread(allow_ports, runs, node, [port])
        tokens = {node: await asyncio.to_thread(token_for, runs, node, f"port:{port}") for node in ("vm-1", "vm-2")}
        health = await asyncio.to_thread(token_for, runs, "vm-1", "health:read")
        shared = await asyncio.to_thread(runs.json, "token", "workspace", "--port", str(port))
        shared["host"] = tokens["vm-1"]["host"]
        async with (
            open_streams(runs, tokens["vm-1"], port, 5) as cut,
            open_streams(runs, shared, port, 5) as cut_too,
            open_streams(runs, tokens["vm-2"], port, 5) as kept,
        ):
            cut.watch()
            cut_too.watch()
            command = ("lock", "node", "vm-1", "--for", "1h", "--reason", "an alarm")
            locked = await asyncio.to_thread(runs.trunkline, *command)
            await asyncio.gather(cut.all_ended(ENDED_SECONDS), cut_too.all_ended(ENDED_SECONDS))
            assert await kept.echoing() == 5
            # Those of the workspace token, which names no node, were cut as well.
            assert b"10 streams" in locked.stdout
        assert (await asyncio.to_thread(status_of, runs, health))[0] == 403
        [lock] = (await asyncio.to_thread(runs.json, "lock", "list"))["locks"]
        assert (lock["reason"], lock["state"]) == ("an alarm", "IN_FORCE")
        await asyncio.to_thread(runs.trunkline, "lock", "lift", lock["lock_id"])
        await asyncio.to_thread(wait_until, lambda: status_of(runs, health)[0] == 200, "the node is of use again")
    assert {role: runs.pid(role) for role in pids} == pids


def test_a_lock_ends_by_the_clocks_of_relay_and_node_though_the_control_plane_is_gone(runs: Sandbox) -> None:
    token = token_for(runs, "vm-1", "health:read")
    assert status_of(runs, token)[0] == 200
    control_plane = runs.pid("control_plane")
    runs.trunkline(
        "lock", "workspace", runs.description["workspace"], "--for", "8s", "--reason", "a drill", "--no-wait"
    )
    wait_until(lambda: status_of(runs, token)[0] == 403, "the lock is in force")
    os.kill(control_plane, signal.SIGSTOP)
    try:
        wait_until(lambda: status_of(runs, token)[0] == 200, "the lock has ended by itself", 30)
    finally:
        os.kill(control_plane, signal.SIGCONT)


def test_the_command_says_who_has_not_reported(runs: Sandbox) -> None:
    relay = runs.pid("relay")
    os.kill(relay, signal.SIGSTOP)
    try:
        finished = runs.trunkline("revoke", "token", "of-nobody", "--timeout", "1", check=False)
        assert finished.returncode == os.EX_TEMPFAIL
        assert b"revoked token of-nobody" in finished.stdout
        assert re.search(rb"not reported yet by .*relay relay-1", finished.stderr)
        assert runs.trunkline("revoke", "token", "of-nobody-else", "--no-wait").returncode == 0
    finally:
        os.kill(relay, signal.SIGCONT)
    wait_until(
        lambda: runs.trunkline("revoke", "token", "of-nobody", check=False).returncode == 0, "the relay reports", 60
    )
