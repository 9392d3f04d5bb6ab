"""Each daemon is killed while calls run: senders learn it within seconds, and everything comes back by itself."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from certs.tls import client_context
from tests.support.sandboxes import Sandbox, wait_until
from trunkline.client.errors import TrunklineError
from trunkline.client.node_sender import NodeSender

TYPED_ERROR_SECONDS = 20.0


def works(sandbox: Sandbox) -> bool:
    """Whether a command runs on both nodes."""
    finished = sandbox.trunkline("run", "--all", "--", "echo", "alive", check=False, timeout=30)
    return finished.returncode == 0 and finished.stdout.count(b"alive") == 2


def restarted(sandbox: Sandbox, role: str, old: int) -> bool:
    return sandbox.pid(role) != old


@pytest.mark.parametrize("role", ["relay", "vm-1", "control_plane"])
def test_a_killed_daemon_comes_back_and_everything_with_it(fragile_sandbox: Sandbox, role: str) -> None:
    wait_until(lambda: works(fragile_sandbox), "the sandbox works")
    old = fragile_sandbox.kill(role)
    wait_until(lambda: restarted(fragile_sandbox, role, old), f"{role} is started again")
    wait_until(lambda: works(fragile_sandbox), f"commands run again after {role} was killed", 60)


@pytest.mark.parametrize("role", ["relay", "vm-1"])
def test_a_run_that_is_cut_never_looks_like_success(fragile_sandbox: Sandbox, role: str) -> None:
    wait_until(lambda: works(fragile_sandbox), "the sandbox works")
    running = fragile_sandbox.start("run", "--node", "vm-1", "--", "sh", "-c", "echo up; sleep 8; echo done; exit 3")
    assert running.stdout is not None
    assert running.stdout.readline() == b"up\n"
    old = fragile_sandbox.kill(role)
    rest, errors = running.communicate(timeout=90)
    # The command goes on without either, and its output and status are picked up when the link is back.
    assert running.returncode == 3, errors
    assert rest == b"done\n"
    assert b"Traceback" not in errors
    wait_until(lambda: restarted(fragile_sandbox, role, old), f"{role} is started again")


async def _call_until_it_fails(sandbox: Sandbox, token: dict[str, str]) -> tuple[TrunklineError, float]:
    description = sandbox.description
    context = client_context(ca_file=Path(description["ca_file"]))
    async with NodeSender(description["relay_url"], ssl_context=context) as sender:
        response = await sender.request("GET", token["host"], "/v1/health", token=token["token"])
        assert response.status == 200
        await response.read()
        killed = asyncio.create_task(asyncio.to_thread(sandbox.kill, "vm-2"))
        began = time.monotonic()
        while True:
            try:
                response = await sender.request(
                    "GET", token["host"], "/v1/health", token=token["token"], timeout_seconds=5
                )
                json.loads(await response.read())
            except TrunklineError as error:
                await killed
                return error, time.monotonic() - began


def test_a_sender_gets_a_typed_error_within_seconds(fragile_sandbox: Sandbox) -> None:
    wait_until(lambda: works(fragile_sandbox), "the sandbox works")
    token = fragile_sandbox.json("token", "call", "vm-2", "--scope", "health:read")
    old = fragile_sandbox.pid("vm-2")
    error, seconds = asyncio.run(_call_until_it_fails(fragile_sandbox, token))
    assert isinstance(error, TrunklineError)
    assert seconds < TYPED_ERROR_SECONDS
    wait_until(lambda: restarted(fragile_sandbox, "vm-2", old), "vm-2 is started again")
    wait_until(lambda: works(fragile_sandbox), "commands run again")


def test_nodes_serve_calls_while_the_control_plane_is_down(fragile_sandbox: Sandbox) -> None:
    wait_until(lambda: works(fragile_sandbox), "the sandbox works")
    token = fragile_sandbox.json("token", "call", "vm-1", "--scope", "health:read")
    description = fragile_sandbox.description

    async def call() -> int:
        context = client_context(ca_file=Path(description["ca_file"]))
        async with NodeSender(description["relay_url"], ssl_context=context) as sender:
            response = await sender.request("GET", token["host"], "/v1/health", token=token["token"])
            await response.read()
            return response.status

    old = fragile_sandbox.kill("control_plane")
    assert asyncio.run(call()) == 200
    wait_until(lambda: restarted(fragile_sandbox, "control_plane", old), "the control plane is started again")
    wait_until(lambda: works(fragile_sandbox), "commands run again")


def test_no_log_of_any_daemon_has_a_traceback(fragile_sandbox: Sandbox) -> None:
    assert "Traceback" not in fragile_sandbox.logs()
