"""Quotas of a workspace, set and lifted while the relay runs: too much is refused, or slowed and comes whole."""

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.node_services import http_service, pattern
from tests.support.sandboxes import Sandbox, allow_ports, wait_until

RATE = 400_000
SIZE = 3_000_000
# Two seconds' worth passes at once, and so does what is under way when that is used up: windows, and kernels' buffers.
LEAST_SECONDS = (SIZE - 2 * RATE - 1_000_000) / RATE


@contextmanager
def quota(sandbox: Sandbox, *bounds: str) -> Iterator[None]:
    """Hold the workspace to a quota for as long as the block lasts."""

    def put(*words: str) -> None:
        before = sandbox.logs().count("quotas.in_force")
        sandbox.trunkline("workspace", "quotas", sandbox.description["workspace"], *words)
        wait_until(lambda: sandbox.logs().count("quotas.in_force") > before, "the relay has heard of the quota")

    put(*bounds)
    try:
        yield
    finally:
        put("--none")


def curl(sandbox: Sandbox, path: str, *, scope: str, times: int = 1, node: str = "vm-1") -> bytes:
    """Call a node through the gateway, so many times on one connection: all answers with their heads."""
    description = sandbox.description
    token = sandbox.json("token", "call", "vm-1", "--scope", scope)["token"]
    url = f"{description['relay_url']}/v1/workspaces/{description['workspace']}/nodes/{node}{path}"
    command = ["curl", "--silent", "--include", "--cacert", description["ca_file"], "--config", "-", *[url] * times]
    secret = f'oauth2-bearer = "{token}"'.encode()
    return subprocess.run(command, input=secret, capture_output=True, check=True, timeout=120).stdout


def test_calls_beyond_a_quota_are_refused_and_the_control_planes_never(sandbox: Sandbox) -> None:
    with quota(sandbox, "--sender-calls-per-second", "1"):
        answers = curl(sandbox, "/v1/health", scope="health:read", times=30)
        assert answers.startswith(b"HTTP/1.1 200 ")
        head, _, rest = answers[answers.index(b"HTTP/1.1 429 ") :].partition(b"\r\n\r\n")
        assert b"\r\nRetry-After: " in head
        assert json.loads(rest.partition(b"HTTP/1.1 ")[0])["error_code"] == "RESOURCE_EXHAUSTED"
        for _ in range(4):
            assert sandbox.trunkline("run", "--node", "vm-1", "--", "echo", "through").stdout == b"through\n"
    assert curl(sandbox, "/v1/health", scope="health:read", times=30).count(b"HTTP/1.1 200 ") == 30


async def test_a_transfer_is_as_fast_as_its_quota_and_comes_whole(sandbox: Sandbox) -> None:
    def download() -> tuple[bytes, float]:
        allow_ports(sandbox, "vm-1", [port])
        with quota(sandbox, "--bytes-per-second", str(RATE)):
            began = time.monotonic()
            answer = curl(sandbox, f"/bytes/{SIZE}", scope=f"port:{port}", node=f"vm-1:{port}")
            return answer, time.monotonic() - began

    async with http_service() as port:
        answer, seconds = await asyncio.to_thread(download)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.partition(b"\r\n\r\n")[2] == pattern(SIZE)
    assert seconds >= LEAST_SECONDS
