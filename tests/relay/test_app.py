"""The relay as a whole, in this process, against a scripted control plane."""

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from structlog.testing import capture_logs

from certs.identities import Identity, relay_id
from certs.keyfiles import write_secret
from relay.app import main, serve
from relay.control_plane.presence import PRESENCE_PATH
from relay.control_plane.report_sender import REPORTS_PATH
from relay.identity.enrolment import ENROL_PATH
from relay.settings import RelaySettings
from tests.support.identities import NODE_ID, IdentityKit
from tests.support.relay_trust import TrustPress
from tests.support.scripted_control_plane import ScriptedControlPlane
from trunkline.channel.upgrade import LinkRequest, write_link_request
from trunkline.runtime.daemon import StartError
from trunkline.runtime.loop import EventLoopName, run

INSTANCE = UUID("11111111-2222-3333-4444-555555555555")


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("identities"))


class Fixture:
    """One relay's directory, the control plane it belongs to, and what it is while it runs."""

    def __init__(self, kit: IdentityKit, directory: Path) -> None:
        self.kit = kit
        self.press = TrustPress(kit)
        self.control_plane = ScriptedControlPlane()
        self.control_plane.answer("POST", ENROL_PATH, self._enrol)
        self.control_plane.answer("PUT", PRESENCE_PATH, lambda _: (200, {}))
        self.control_plane.answer("POST", REPORTS_PATH, lambda _: (200, {}))
        self.state = directory / "state"
        self.token_file = directory / "join-token"
        self.token_file.write_text("a-join-token")
        self.token_file.chmod(0o600)
        self.url = "https://localhost:1"

    def _enrol(self, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        spiffe_id = relay_id(self.kit.trust_domain, "rl-one")
        chain = self.kit.authority.issue_relay(document["csr"], spiffe_id, ("localhost",), 86400, now=self.kit.now)
        return 200, {"relay_id": "rl-one", "certificate_chain": chain.pem, "trust_document": self.press.document()}

    def settings(self, **changes: Any) -> RelaySettings:
        return RelaySettings(
            **{
                "state_directory": self.state,
                "control_plane": {"url": self.url, "ca_file": str(self.kit.ca_file)},
                "enrolment": {"join_token_file": str(self.token_file), "name": "relay-1"},
                "listen": {"address": "127.0.0.1", "port": 0},
                "admin": {"port": 0},
                **changes,
                "limits": {"drain_lead_seconds": 0, **changes.get("limits", {})},
            }
        )

    @asynccontextmanager
    async def with_control_plane(self) -> AsyncIterator[None]:
        async with self.control_plane.serve(self.kit.server_tls().context):
            self.url = self.control_plane.url
            yield

    @asynccontextmanager
    async def running(self, **changes: Any) -> AsyncIterator[dict[str, Any]]:
        """Run the relay and yield its endpoints; it is asked to end with the block."""
        task = asyncio.create_task(serve(self.settings(**changes)))
        while not (self.state / "endpoints.json").exists() and not task.done():  # noqa: ASYNC110 - a file tells
            await asyncio.sleep(0.005)
        if task.done():
            task.result()
        try:
            yield json.loads((self.state / "endpoints.json").read_text())
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await task

    async def call(self, url: str, token: str | None = None) -> tuple[int, dict[str, str], str]:
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        connector = aiohttp.TCPConnector(ssl=self.kit.client_tls())
        async with aiohttp.ClientSession(connector=connector) as session, session.get(url, headers=headers) as response:
            return response.status, dict(response.headers), await response.text()

    async def attach(self, url: str, own: Identity, sequence: int = 1) -> tuple[asyncio.StreamReader, Any, bytes]:
        """Ask for a listener's link; returns the connection and the head of the answer."""
        port = int(url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=self.kit.client_tls(own), server_hostname="localhost"
        )
        request = LinkRequest("localhost", token=self.kit.listen_token(own), instance=INSTANCE, sequence=sequence)
        writer.write(write_link_request(request))
        return reader, writer, await reader.readuntil(b"\r\n\r\n")


@pytest.fixture
def relay(kit: IdentityKit, tmp_path: Path) -> Fixture:
    return Fixture(kit, tmp_path)


async def speak_no_tls(port: int) -> None:
    """Send what is no TLS, and wait until the relay has hung up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    with contextlib.suppress(ConnectionResetError):
        await reader.read()
    writer.close()


@pytest.mark.parametrize("event_loop", ["auto", "asyncio"])
def test_it_enrols_serves_drains_and_starts_again_without_a_control_plane(relay: Fixture, event_loop: EventLoopName):
    async def first() -> None:
        async with relay.with_control_plane(), relay.running() as endpoints:
            assert endpoints["pid"] == os.getpid()
            node_url = f"{endpoints['url']}/v1/workspaces/finance/nodes/vm-1/v1/health"
            status, headers, text = await relay.call(node_url, relay.kit.call_token())
            assert (status, json.loads(text)["error_code"]) == (502, "NODE_UNREACHABLE")
            assert headers["Proxy-Status"].startswith("trunkline-relay; error=")
            assert (await relay.call(node_url))[0] == 401
            port = int(endpoints["url"].rsplit(":", 1)[1])
            await speak_no_tls(port)
            assert await relay.control_plane.wait_for(PRESENCE_PATH) == [{"port": port}]
            assert (await relay.call(f"{endpoints['admin_url']}/readyz"))[0] == 200
            assert (await relay.call(f"{endpoints['url']}/v1/ready"))[::2] == (200, "ready\n")
            metrics = (await relay.call(f"{endpoints['admin_url']}/metrics"))[2]
            assert "trunkline_relay_trust_document_sequence 1.0" in metrics
            assert 'trunkline_relay_handshake_failures_total{reason="tls"} 1.0' in metrics
            assert 'trunkline_relay_admission_refusals_total{outcome="no_listener"} 1.0' in metrics
        items = [item for document in await relay.control_plane.wait_for(REPORTS_PATH) for item in document["items"]]
        assert {item["outcome"] for item in items if item["type"] == "refusal"} == {"no_listener", "no_token"}

    async def second() -> None:
        relay.url = "https://localhost:1"
        async with relay.running(enrolment={}) as endpoints:
            node_url = f"{endpoints['url']}/v1/workspaces/finance/nodes/vm-1/v1/health"
            assert (await relay.call(node_url, relay.kit.call_token()))[0] == 502

    run(first, event_loop=event_loop)
    kept = ["format", "identity.pem", "lock", "trust-document.jws"]
    assert sorted(path.name for path in relay.state.iterdir()) == kept
    run(second, event_loop=event_loop)
    assert sorted(path.name for path in relay.state.iterdir()) == kept


@pytest.mark.parametrize("event_loop", ["auto", "asyncio"])
def test_a_revocation_cuts_a_listener_and_keeps_it_out(relay: Fixture, event_loop: EventLoopName):
    async def body() -> None:
        own = relay.kit.issue_node()
        async with relay.with_control_plane(), relay.running() as endpoints:
            reader, writer, answer = await relay.attach(endpoints["url"], own)
            assert answer.startswith(b"HTTP/1.1 101 ")
            await relay.control_plane.followed.wait()
            revoking = relay.press.document(nodes=[NODE_ID])
            relay.control_plane.feed(f"event: trust_document\ndata: {revoking}\n\n".encode())
            async with asyncio.timeout(30):
                await reader.read()
            writer.close()
            _, writer, answer = await relay.attach(endpoints["url"], own, sequence=2)
            assert answer.startswith(b"HTTP/1.1 401 ")
            writer.close()

    run(body, event_loop=event_loop)


@pytest.mark.parametrize("event_loop", ["auto", "asyncio"])
def test_a_stream_that_was_opened_under_a_certificate_that_is_revoked_is_left_for_another(
    relay: Fixture, event_loop: EventLoopName
):
    async def body() -> None:
        plane, tls = relay.control_plane, relay.kit.server_tls()
        async with plane.serve(tls.context):
            relay.url = plane.url
            async with relay.running():
                await plane.followed.wait()
                plane.followed.clear()
                tls.swap(relay.kit.issue_control_plane(), relay.kit.roots)
                revoking = relay.press.document(certificates=[relay.kit.control_plane.serial])
                plane.feed(f"event: trust_document\ndata: {revoking}\n\n".encode())
                with capture_logs() as lines:
                    async with asyncio.timeout(30):
                        await plane.followed.wait()
                assert "trust.feed_lost" not in [line["event"] for line in lines], "it was left since it fell silent"

    run(body, event_loop=event_loop)


@pytest.mark.parametrize("event_loop", ["auto", "asyncio"])
def test_draining_says_goodbye_to_links(relay: Fixture, event_loop: EventLoopName):
    async def body() -> None:
        own = relay.kit.issue_node()
        async with relay.with_control_plane():
            async with relay.running(limits={"drain_seconds": 0.2, "notice_seconds": 0.1}) as endpoints:
                reader, writer, answer = await relay.attach(endpoints["url"], own)
                assert answer.startswith(b"HTTP/1.1 101 ")
            frames = await reader.read()
            writer.close()
        assert b'{"type":"draining"}' in frames
        assert b"\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" in frames

    run(body, event_loop=event_loop)


def test_a_clock_that_differs_from_the_control_planes_is_remarked(relay: Fixture):
    async def body() -> None:
        async with relay.with_control_plane():
            async with relay.running():
                pass  # a machine with such a clock would not be enrolled
            relay.control_plane.date = "Sun, 06 Nov 1994 08:49:37 GMT"
            async with relay.running(enrolment={}) as endpoints:
                remarks: dict[str, str] = {}
                while "clock" not in remarks:
                    status, _, text = await relay.call(f"{endpoints['admin_url']}/readyz?verbose")
                    remarks = json.loads(text).get("remarks", {})
                assert status == 200
                assert "s ahead of the control plane's; set it right (NTP)" in remarks["clock"]

    run(body)


@pytest.mark.parametrize("event_loop", ["auto", "asyncio"])
def test_a_relay_that_drains_serves_until_its_port_is_closed(relay: Fixture, event_loop: EventLoopName):
    async def body() -> None:
        async with relay.with_control_plane(), relay.running(limits={"drain_lead_seconds": 3600}) as endpoints:
            node_url = f"{endpoints['url']}/v1/workspaces/finance/nodes/vm-1/v1/health"
            reader, writer, answer = await relay.attach(endpoints["url"], relay.kit.issue_node())
            assert answer.startswith(b"HTTP/1.1 101 ")
            os.kill(os.getpid(), signal.SIGTERM)
            assert b'{"type":"draining"}' in await reader.readuntil(b'{"type":"draining"}')
            status, _, text = await relay.call(f"{endpoints['admin_url']}/readyz?verbose")
            assert status == 503
            assert json.loads(text)["draining"] is True
            assert (await relay.call(f"{endpoints['url']}/v1/ready"))[::2] == (503, "not ready\n")
            assert json.loads(text)["left"] == {
                "connections": 0,
                "sender_links": 0,
                "listener_links": 1,
                "calls_open": 0,
                "calls": [],
            }
            refused, headers, _ = await relay.call(node_url.replace("vm-1", "vm-2"), relay.kit.call_token())
            assert (refused, headers["Connection"]) == (404, "close")
            writer.close()

    run(body, event_loop=event_loop)


def test_a_relay_that_had_nodes_is_ready_without_them_after_a_while(relay: Fixture):
    async def first() -> None:
        async with relay.with_control_plane(), relay.running() as endpoints:
            _, writer, answer = await relay.attach(endpoints["url"], relay.kit.issue_node())
            assert answer.startswith(b"HTTP/1.1 101 ")
            await relay.control_plane.wait_for(REPORTS_PATH)
            os.kill(os.getpid(), signal.SIGTERM)
            writer.close()

    async def second() -> None:
        async with relay.with_control_plane(), relay.running(limits={"return_seconds": 0.05}):
            pass

    run(first, event_loop="asyncio")
    assert (relay.state / "nodes").read_text() == "1\n"
    run(second, event_loop="asyncio")
    assert (relay.state / "nodes").read_text() == "0\n"


def test_a_port_that_is_taken_is_a_clear_failure(relay: Fixture):
    async def body() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            async with relay.with_control_plane():
                await serve(relay.settings(listen={"address": "127.0.0.1", "port": port}))

    with pytest.RaisesGroup(StartError, allow_unwrapped=True, flatten_subgroups=True):
        run(body, event_loop="asyncio")


def test_without_identity_and_join_token_it_says_what_to_do(relay: Fixture):
    async def body() -> None:
        await serve(relay.settings(enrolment={}))

    with pytest.raises(StartError, match="trunkline token relay"):
        run(body, event_loop="asyncio")


def test_it_can_be_ended_while_it_waits_for_the_control_plane(relay: Fixture):
    async def body() -> None:
        task = asyncio.create_task(serve(relay.settings()))
        while not (relay.state / "enrolment-request.pem").exists():  # noqa: ASYNC110 - a file tells
            await asyncio.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)
        await task

    run(body, event_loop="asyncio")


def test_the_front_checks_the_settings(tmp_path, capsys):
    config = tmp_path / "relay.toml"
    text = f'state_directory = "{tmp_path}"\n[control_plane]\nurl = "https://localhost:1"\n'
    config.write_text(text)
    assert main(["--config", str(config), "--check-config"]) == 78
    assert "make a join token" in capsys.readouterr().err
    token = tmp_path / "token"
    token.write_text("tlr-x\n")
    token.chmod(0o600)
    config.write_text(text + f'[enrolment]\njoin_token_file = "{token}"\n')
    assert main(["--config", str(config), "--check-config"]) == 0
    assert capsys.readouterr().out == "ok\n"
    config.write_text(text)
    (tmp_path / "identity.pem").touch()
    assert main(["--config", str(config), "--check-config"]) == 0
    assert capsys.readouterr().out == "ok\n"
    config.write_text("[control_plane]\nurl = 1\n")
    assert main(["--config", str(config)]) == 78
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_certificates_that_cannot_be_used_are_named_before_a_start(
    kit: IdentityKit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "identity.pem").touch()
    one, other = (kit.issue_relay(name) for name in ("one", "other"))
    for name, identity in (("one.pem", one), ("other.pem", other)):
        write_secret(tmp_path / name, identity.to_pem().removesuffix(identity.chain.pem.encode()))
    (tmp_path / "garbage.pem").write_text("garbage")
    config = tmp_path / "relay.toml"

    def said(chain: str, key: str, ca_file: str) -> list[str]:
        config.write_text(
            f'state_directory = "{tmp_path}"\n[control_plane]\nurl = "https://localhost:1"\nca_file = "{ca_file}"\n'
            f'[certificate]\nchain_file = "{tmp_path / chain}"\nkey_file = "{tmp_path / key}"\n'
        )
        code = main(["--config", str(config), "--check-config"])
        told = capsys.readouterr()
        assert code == (78 if told.err else 0)
        return told.err.splitlines()

    (tmp_path / "chain.pem").write_text(one.chain.pem)
    ca_file = str(kit.ca_file)
    assert said("chain.pem", "one.pem", ca_file) == []
    [disagree] = said("chain.pem", "other.pem", ca_file)
    assert "[certificate]: " in disagree
    assert f"{tmp_path / 'chain.pem'}: the certificate does not belong to the private key" in disagree
    (tmp_path / "other.pem").chmod(0o644)
    assert "chmod 600" in said("chain.pem", "other.pem", ca_file)[0]
    two = said("garbage.pem", "one.pem", str(tmp_path / "garbage.pem"))
    assert "[control_plane]: cannot use the CA file" in two[0]
    assert "these are not PEM certificates" in two[1]
