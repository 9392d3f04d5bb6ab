"""Links through networks that are in the way: inside a WebSocket, and through an HTTP proxy with a password."""

import asyncio
import base64
import hashlib
import json
from pathlib import Path

from certs.tls import client_context
from tests.support.http_proxy import http_proxy
from tests.support.node_services import http_service, pattern
from tests.support.sandboxes import Sandbox, allow_ports, wait_until
from trunkline.client.node_sender import NodeSender

BULK_BYTES = 12 * 1024 * 1024


def restart_with(sandbox: Sandbox, node: str, addition: str) -> None:
    """Add to a node's settings and kill its agent, which starts again with them."""
    settings = sandbox.state / "nodes" / node / "config.toml"
    settings.write_text(settings.read_text() + "\n" + addition)
    old = sandbox.kill(node)
    wait_until(lambda: sandbox.pid(node) != old, f"{node} is started again")


def runs(sandbox: Sandbox, node: str) -> bool:
    finished = sandbox.trunkline("run", "--node", node, "--", "echo", "alive", check=False)
    return finished.returncode == 0 and finished.stdout == b"alive\n"


async def bulk_both_ways(sandbox: Sandbox, node: str) -> None:
    content = pattern(BULK_BYTES)
    description = sandbox.description
    context = client_context(ca_file=Path(description["ca_file"]))
    async with http_service() as port:
        await asyncio.to_thread(allow_ports, sandbox, node, [port])
        token = await asyncio.to_thread(sandbox.json, "token", "call", node, "--scope", f"port:{port}")
        async with NodeSender(description["relay_url"], ssl_context=context) as sender:
            authority = f"{token['host']}:{port}"
            answer = await sender.request("GET", authority, f"/bytes/{BULK_BYTES}", token=token["token"])
            assert await answer.read() == content
            answer = await sender.request("PUT", authority, "/digest", token=token["token"], body=content)
            assert json.loads(await answer.read())["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_link_inside_a_websocket(fragile_sandbox: Sandbox) -> None:
    restart_with(fragile_sandbox, "vm-1", '[links]\ncarrier = "websocket"\n')
    wait_until(lambda: runs(fragile_sandbox, "vm-1"), "commands run over the WebSocket")
    asyncio.run(bulk_both_ways(fragile_sandbox, "vm-1"))


def test_an_agent_behind_an_http_proxy(fragile_sandbox: Sandbox) -> None:
    async def behind_a_proxy() -> list[str]:
        word = base64.b64encode(b"vm:pass-phrase-of-the-proxy").decode()
        async with http_proxy(authorization=f"Basic {word}") as proxy:
            addition = f'[proxy]\nurl = "http://vm:pass-phrase-of-the-proxy@127.0.0.1:{proxy.port}"\n'
            await asyncio.to_thread(restart_with, fragile_sandbox, "vm-2", addition)
            await asyncio.to_thread(wait_until, lambda: runs(fragile_sandbox, "vm-2"), "commands run through the proxy")
            await bulk_both_ways(fragile_sandbox, "vm-2")
            return [head[0] for head in proxy.requests]

    seen = asyncio.run(behind_a_proxy())
    relay = fragile_sandbox.description["relay_url"].removeprefix("https://")
    assert f"CONNECT {relay} HTTP/1.1" in seen
    assert "pass-phrase-of-the-proxy" not in fragile_sandbox.logs()
