"""A sender reaches a node's services through each of the three doors, with clients that know nothing of Trunkline."""

import asyncio
import base64
import hashlib
import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.asyncio.client import connect as connect_websocket

from certs.tls import client_context
from tests.support.node_services import echo_service, http_service, pattern
from tests.support.sandboxes import Sandbox, allow_ports
from trunkline.client.node_sender import NodeSender

SUFFIX = "trunk.internal"
BULK_BYTES = 100 * 1024 * 1024


@dataclass(frozen=True)
class Reach:
    """What a client is given: the relay, the roots, the ports, a token for them."""

    relay: str
    ca_file: str
    workspace: str
    http_port: int
    echo_port: int
    token: str

    @property
    def host(self) -> str:
        return f"vm-1.{self.workspace}.{SUFFIX}"

    def gateway(self, port: int | None = None) -> str:
        node = "vm-1" if port is None else f"vm-1:{port}"
        return f"{self.relay}/v1/workspaces/{self.workspace}/nodes/{node}"


@pytest.fixture
async def reach(sandbox: Sandbox) -> AsyncIterator[Reach]:
    async with http_service() as http_port, echo_service() as echo_port:
        await asyncio.to_thread(allow_ports, sandbox, "vm-1", [http_port, echo_port])
        scopes = ["health:read", f"port:{http_port}", f"port:{echo_port}"]
        words = [word for scope in scopes for word in ("--scope", scope)]
        token = await asyncio.to_thread(sandbox.json, "token", "call", "vm-1", *words)
        description = sandbox.description
        yield Reach(
            relay=description["relay_url"],
            ca_file=description["ca_file"],
            workspace=description["workspace"],
            http_port=http_port,
            echo_port=echo_port,
            token=token["token"],
        )


async def curl(reach: Reach, *arguments: str) -> bytes:
    """Run curl with its secrets on standard input, and return what it printed."""
    config = f'cacert = "{reach.ca_file}"\nproxy-cacert = "{reach.ca_file}"\nsilent\nshow-error\nmax-time = 150\n'
    command = ["curl", "--config", "-", *arguments]
    finished = await asyncio.to_thread(
        subprocess.run, command, input=config.encode(), capture_output=True, check=False, timeout=160
    )
    assert finished.returncode == 0, finished.stderr.decode()
    return finished.stdout


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


async def test_curl_through_the_gateway_reaches_the_agents_own_api(reach: Reach) -> None:
    answer = json.loads(await curl(reach, "-H", bearer(reach.token), f"{reach.gateway()}/v1/health"))
    assert answer["status"] in ("ok", "degraded")
    assert answer["node_id"].startswith("nd-")


async def test_curl_through_the_gateway_reaches_a_port_and_cookies_end_there(reach: Reach) -> None:
    url = f"{reach.gateway(reach.http_port)}/headers?x=1"
    answer = (await curl(reach, "-i", "-H", bearer(reach.token), "-H", "traceparent: 00-a-b-01", url)).decode()
    head, _, body = answer.partition("\r\n\r\n")
    fields = {name.lower(): value for name, value in json.loads(body)["fields"]}
    assert "set-cookie" not in head.lower()
    assert fields["host"] == f"{reach.host}:{reach.http_port}"
    assert fields["traceparent"] == "00-a-b-01"
    assert "authorization" not in fields
    assert "proxy-authorization" not in fields


async def test_curl_through_the_proxy_door_with_bearer_in_absolute_form(reach: Reach) -> None:
    # curl turns to CONNECT only for https targets, so this is GET http://… on the relay's own connection.
    url = f"http://{reach.host}:{reach.http_port}/headers"
    answer = await curl(
        reach, "-x", reach.relay, "--proxy-header", f"Proxy-Authorization: Bearer {reach.token}",
        "-H", "Authorization: Basic c2VydmljZTo=", url,
    )  # fmt: skip
    fields = {name.lower(): value for name, value in json.loads(answer)["fields"]}
    assert fields["authorization"] == "Basic c2VydmljZTo=", "Authorization belongs to the service"
    assert "proxy-authorization" not in fields


async def test_curl_through_the_proxy_door_with_basic(reach: Reach) -> None:
    url = f"http://{reach.host}/v1/health"
    answer = await curl(reach, "-x", reach.relay, "--proxy-user", f"any:{reach.token}", url)
    assert json.loads(answer)["node_id"].startswith("nd-")


@pytest.mark.parametrize("scheme", ["bearer", "basic"])
async def test_curl_through_a_connect_tunnel(reach: Reach, scheme: str) -> None:
    credentials = {
        "bearer": ("--proxy-header", f"Proxy-Authorization: Bearer {reach.token}"),
        "basic": ("--proxy-user", f"any:{reach.token}"),
    }[scheme]
    url = f"http://{reach.host}:{reach.http_port}/bytes/70000"
    answer = await curl(reach, "-x", reach.relay, "--proxytunnel", *credentials, url)
    assert answer == pattern(70000)


async def test_connect_to_port_80_gives_the_agents_api_inside(reach: Reach) -> None:
    url = f"http://{reach.host}:80/v1/health"
    answer = await curl(reach, "-x", reach.relay, "--proxytunnel", "--proxy-user", f"any:{reach.token}", url)
    assert json.loads(answer)["node_id"].startswith("nd-")


async def test_without_a_token_each_door_refuses_in_its_own_way(reach: Reach) -> None:
    report = "\n%{http_code} %header{proxy-status}"
    gateway = (await curl(reach, "-w", report, f"{reach.gateway()}/v1/health")).decode()
    proxy = (await curl(reach, "-w", report, "-x", reach.relay, f"http://{reach.host}/v1/health")).decode()
    assert gateway.splitlines()[-1].startswith("401 trunkline-relay; error=http_request_denied")
    assert proxy.splitlines()[-1].startswith("407 trunkline-relay; error=http_request_denied")
    assert json.loads(gateway.splitlines()[0])["error_code"] == "UNAUTHENTICATED"


async def test_a_websocket_through_the_gateway(reach: Reach) -> None:
    url = f"{reach.gateway(reach.http_port)}/websocket".replace("https://", "wss://")
    headers = {"Authorization": f"Bearer {reach.token}"}
    async with connect_websocket(
        url, additional_headers=headers, ssl=client_context(ca_file=Path(reach.ca_file)), proxy=None
    ) as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"
        await socket.send(pattern(500_000))
        assert await socket.recv() == pattern(500_000)


async def test_a_websocket_through_the_proxy_door(reach: Reach) -> None:
    url = f"ws://{reach.host}:{reach.http_port}/websocket"
    relay = reach.relay.replace("https://", f"https://any:{reach.token}@")
    async with connect_websocket(url, proxy=relay, proxy_ssl=client_context(ca_file=Path(reach.ca_file))) as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"


async def test_bulk_through_the_gateway_both_ways(reach: Reach, tmp_path: Path) -> None:
    content = pattern(BULK_BYTES)
    upload, download = tmp_path / "up", tmp_path / "down"
    upload.write_bytes(content)
    base = reach.gateway(reach.http_port)
    await curl(reach, "-H", bearer(reach.token), "-o", str(download), f"{base}/bytes/{BULK_BYTES}")
    assert download.read_bytes() == content
    answer = json.loads(await curl(reach, "-H", bearer(reach.token), "-T", str(upload), f"{base}/digest"))
    assert answer == {"sha256": hashlib.sha256(content).hexdigest(), "size": BULK_BYTES}


@pytest.mark.parametrize("tunnel", [(), ("--proxytunnel",)], ids=["absolute-form", "connect"])
async def test_bulk_through_the_proxy_door_both_ways(reach: Reach, tmp_path: Path, tunnel: tuple[str, ...]) -> None:
    content = pattern(BULK_BYTES)
    upload, download = tmp_path / "up", tmp_path / "down"
    upload.write_bytes(content)
    base = f"http://{reach.host}:{reach.http_port}"
    proxy = ("-x", reach.relay, "--proxy-user", f"any:{reach.token}", *tunnel)
    await curl(reach, *proxy, "-o", str(download), f"{base}/bytes/{BULK_BYTES}")
    assert download.read_bytes() == content
    answer = json.loads(await curl(reach, *proxy, "-T", str(upload), f"{base}/digest"))
    assert answer == {"sha256": hashlib.sha256(content).hexdigest(), "size": BULK_BYTES}


async def test_bulk_over_a_link_both_ways(reach: Reach) -> None:
    content = pattern(BULK_BYTES)
    authority = f"{reach.host}:{reach.http_port}"
    async with NodeSender(reach.relay, ssl_context=client_context(ca_file=Path(reach.ca_file))) as sender:
        answer = await sender.request("GET", authority, f"/bytes/{BULK_BYTES}", token=reach.token)
        digest = hashlib.sha256()
        async for piece in answer:
            digest.update(piece)
        assert digest.digest() == hashlib.sha256(content).digest()
        answer = await sender.request("PUT", authority, "/digest", token=reach.token, body=content)
        assert json.loads(await answer.read()) == {
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": BULK_BYTES,
        }


async def test_raw_bytes_over_a_link_with_half_close(reach: Reach) -> None:
    content = pattern(3_000_000)
    async with NodeSender(reach.relay, ssl_context=client_context(ca_file=Path(reach.ca_file))) as sender:
        reader, writer = await sender.open_connection(reach.host, reach.echo_port, token=reach.token)

        async def send() -> None:
            writer.write(content)
            await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(send())
        assert await reader.read(-1) == content
        await sending
        writer.close()


async def test_a_thousand_calls_at_once_on_one_link(reach: Reach) -> None:
    authority = f"{reach.host}:{reach.http_port}"
    async with NodeSender(reach.relay, ssl_context=client_context(ca_file=Path(reach.ca_file))) as sender:

        async def call(size: int) -> bytes:
            response = await sender.request("GET", authority, f"/bytes/{size}", token=reach.token)
            return await response.read()

        answers = await asyncio.gather(*(call(size) for size in range(1, 1001)))
        everything = pattern(1000)
    assert [len(answer) for answer in answers] == list(range(1, 1001))
    assert all(answer == everything[: len(answer)] for answer in answers)


async def test_basic_credentials_are_not_a_bearer_at_the_gateway(reach: Reach) -> None:
    word = base64.b64encode(f"any:{reach.token}".encode()).decode()
    code = await curl(
        reach, "-o", "/dev/null", "-w", "%{http_code}", "-H", f"Authorization: Basic {word}",
        f"{reach.gateway()}/v1/health",
    )  # fmt: skip
    assert code == b"401"
