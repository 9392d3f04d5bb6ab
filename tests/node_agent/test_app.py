"""The whole agent in this process, between a control plane and a relay on loopback, both over TLS."""

import asyncio
import json
import os
import signal
from contextlib import asynccontextmanager

import aiohttp
import pytest

from certs.trust import Revocations
from node_agent.app import main, serve
from node_agent.identity import trust_watch
from node_agent.settings import ENVIRONMENT_PREFIX, AgentSettings
from tests.support.agent_control_plane import JOIN_TOKEN, AgentControlPlane
from tests.support.agent_exchanges import parse_answer
from tests.support.link_server import link_server
from trunkline.channel.stream_transport import open_stream_pair
from trunkline.runtime.daemon import StartError
from trunkline.runtime.files import StateDirectoryError
from trunkline.runtime.settings import load_settings


def write_settings(tmp_path, url, ca_file, **more):
    token = tmp_path / "join-token"
    token.write_text(JOIN_TOKEN)
    token.chmod(0o600)
    path = tmp_path / "node-agent.toml"
    path.write_text(
        f"state_directory = '{tmp_path}/state'\ndrain_seconds = 5.0\n"
        f"[control_plane]\nurl = '{url}'\nca_file = '{ca_file}'\n"
        f"[bootstrap]\nmethod = 'join_token'\njoin_token_file = '{token}'\n[admin]\nport = 0\n"
        "[commands]\noutlive_agent = false\n"
        "[links]\nbackoff_cap_seconds = 0.2\n" + more.get("extra", "")
    )
    return load_settings(AgentSettings, path, {}, prefix=ENVIRONMENT_PREFIX)


@pytest.fixture
async def control_plane(kit):
    async with AgentControlPlane(kit).serve() as serving:
        yield serving


@pytest.fixture
async def relay(kit, control_plane):
    async with link_server(kit.server_tls(kit.issue_relay()).context) as server:
        control_plane.relays = [server.url]
        yield server


@asynccontextmanager
async def running(settings, until):
    """The agent, ready; ended by SIGTERM."""
    task = asyncio.ensure_future(serve(settings))
    endpoints = settings.state_directory / "endpoints.json"
    await until(lambda: endpoints.exists() or task.done())
    if task.done():
        task.result()
    try:
        yield json.loads(endpoints.read_text())
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await task


async def call(link, kit, method, path, body=b"", token=None):
    reader, writer = open_stream_pair(link.open())
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: vm-1.finance.trunk.internal\r\nConnection: close\r\n"
        f"Proxy-Authorization: Bearer {token or kit.call_token()}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    writer.write(head + body)
    answer = parse_answer(head, await reader.read())
    writer.close()
    return answer


async def test_from_nothing_to_a_command(kit, control_plane, relay, tmp_path, until):
    settings = write_settings(tmp_path, control_plane.url, kit.ca_file)
    async with running(settings, until) as endpoints:
        link = relay.links[0]
        health = json.loads((await call(link, kit, "GET", "/v1/health")).body)
        assert (health["status"], health["node_id"], health["trust_sequence"]) == ("ok", "nd-one", 1)
        assert abs(health["clock_offset_seconds"]) < 3
        submitted = await call(link, kit, "PUT", "/v1/commands/c-1", json.dumps({"argv": ["id", "-un"]}).encode())
        assert submitted.status == 201
        output = await call(link, kit, "GET", "/v1/commands/c-1/output?follow=true")
        assert output.body.strip() == (b"nobody" if os.geteuid() == 0 else output.body.strip())
        async with aiohttp.ClientSession() as session:
            async with session.get(endpoints["admin_url"] + "/readyz") as ready:
                assert ready.status == 200
            async with session.get(endpoints["admin_url"] + "/metrics") as metrics:
                assert "trunkline_node_agent_links 1.0" in await metrics.text()
    assert not (tmp_path / "state" / "endpoints.json").exists()


async def test_a_restart_needs_no_control_plane(kit, control_plane, relay, tmp_path, until):
    settings = write_settings(tmp_path, control_plane.url, kit.ca_file)
    async with running(settings, until):
        pass
    asked = len(control_plane.asked)
    control_plane.reachable = False
    async with running(settings, until):
        assert (await call(relay.links[-1], kit, "GET", "/v1/health")).status == 200
    in_vain = {"/api/2.0/nodes/self/secrets", "/api/2.0/nodes/self/reports"}
    assert {path for path, _ in control_plane.asked[asked:]} <= in_vain


async def test_a_clock_that_differs_from_the_control_planes_is_told(kit, control_plane, relay, tmp_path, until):
    settings = write_settings(tmp_path, control_plane.url, kit.ca_file)
    async with running(settings, until):
        pass  # a machine with such a clock would not be bootstrapped
    control_plane.date = "Sun, 06 Nov 1994 08:49:37 GMT"
    async with running(settings, until) as endpoints, aiohttp.ClientSession() as session:
        remarks = {}
        while "clock" not in remarks:
            async with session.get(endpoints["admin_url"] + "/readyz?verbose") as ready:
                assert ready.status == 200
                remarks = (await ready.json()).get("remarks", {})
        assert "s ahead of the control plane's; set it right (NTP)" in remarks["clock"]
        health = json.loads((await call(relay.links[-1], kit, "GET", "/v1/health")).body)
        assert (health["status"], health["clock_skew"]) == ("degraded", True)


async def test_a_revocation_that_is_pushed_cuts_and_refuses(kit, control_plane, relay, tmp_path, until):
    settings = write_settings(tmp_path, control_plane.url, kit.ca_file)
    async with running(settings, until):
        link, token = relay.links[0], kit.call_token()
        body = json.dumps({"argv": ["sleep", "60"]}).encode()
        assert (await call(link, kit, "PUT", "/v1/commands/c-1", body, token)).status == 201
        following = asyncio.ensure_future(call(link, kit, "GET", "/v1/commands/c-1/output?follow=true", token=token))
        await asyncio.sleep(0.1)
        claims = kit.verifier().verify(token, "tl-call+jwt", kit.now)
        control_plane.revocations = Revocations(token_ids={claims.token_id: 4_000_000_000})
        control_plane.sequence = 2
        notice = json.dumps({"type": "trust_document", "trust_document": control_plane.trust_document()}).encode()
        reader, writer = open_stream_pair(link.open())
        head = b"POST /v1/notice HTTP/1.1\r\nHost: link.internal\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        writer.write(head % len(notice) + notice)
        assert (await reader.read()).startswith(b"HTTP/1.1 204")
        writer.close()
        with pytest.raises(ConnectionResetError):
            await following
        assert (await call(link, kit, "GET", "/v1/health", token=token)).status == 401
        assert (await call(link, kit, "GET", "/v1/health")).status == 200


async def test_a_revocation_that_the_relay_keeps_back_is_fetched(
    kit, control_plane, relay, tmp_path, until, monkeypatch
):
    """The relay never pushes a document; the node hears of it from the control plane, and cuts and refuses."""
    monkeypatch.setattr(trust_watch, "SHORTEST_SILENCE_SECONDS", 0.1)
    monkeypatch.setattr(trust_watch, "LONGEST_SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(trust_watch, "SHORTEST_GRACE_SECONDS", 0.0)
    monkeypatch.setattr(trust_watch, "LONGEST_GRACE_SECONDS", 0.2)
    settings = write_settings(tmp_path, control_plane.url, kit.ca_file)
    async with running(settings, until) as endpoints:
        await until(lambda: relay.links)
        token = kit.call_token()
        assert (await call(relay.links[0], kit, "GET", "/v1/health", token=token)).status == 200
        claims = kit.verifier().verify(token, "tl-call+jwt", kit.now)
        control_plane.revocations = Revocations(token_ids={claims.token_id: 4_000_000_000})
        control_plane.sequence = 2
        async with asyncio.timeout(30):
            while (await call(relay.links[0], kit, "GET", "/v1/health", token=token)).status == 200:
                pass
        async with aiohttp.ClientSession() as session, session.get(endpoints["admin_url"] + "/metrics") as answer:
            text = await answer.text()
        assert 'trunkline_node_agent_trust_documents_fetched_total{reason="withheld"} 1.0' in text
        assert "trunkline_node_agent_trust_document_sequence 2.0" in text


async def test_two_agents_cannot_share_a_state_directory(kit, control_plane, relay, tmp_path, until):
    settings = write_settings(tmp_path, control_plane.url, kit.ca_file)
    async with running(settings, until):
        with pytest.raises(StateDirectoryError):
            await serve(settings)


async def test_a_policy_that_cannot_be_used_stops_the_start(kit, control_plane, tmp_path):
    (tmp_path / "policy.toml").write_text("[commands]\nshell = true\n")
    (tmp_path / "policy.toml").chmod(0o600)
    settings = write_settings(
        tmp_path, control_plane.url, kit.ca_file, extra=f"[policy]\nfile = '{tmp_path}/policy.toml'\n"
    )
    with pytest.raises(StartError, match="shell"):
        await serve(settings)


async def test_a_bootstrap_that_waits_ends_with_the_agent(kit, control_plane, tmp_path):
    control_plane.reachable = False
    settings = write_settings(tmp_path, control_plane.url, kit.ca_file)
    task = asyncio.ensure_future(serve(settings))
    await control_plane.asked_for("/api/2.0/bootstrap/challenge", 2)
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(30):
        await task


def test_wrong_settings_are_all_named(tmp_path, capsys):
    path = tmp_path / "node-agent.toml"
    path.write_text(
        "state_directory = '/x'\nextra = 1\n[control_plane]\nurl = 'http://x'\n[bootstrap]\nmethod = 'azure'\n"
        "[admin]\naddress = '0.0.0.0'\nport = 1\n[links]\nrelays = ['ftp://x']\n"
    )
    assert main(["--config", str(path), "--check-config"]) == 78
    said = capsys.readouterr().err
    for key in ("extra", "control_plane.url", "audience", "admin.address", "links.relays"):
        assert key in said
    assert main(["--config", str(tmp_path / "missing.toml")]) == 78


def test_what_contradicts_is_named_beside_what_is_wrong_by_itself(tmp_path, capsys):
    path = tmp_path / "node-agent.toml"
    path.write_text(
        f"state_directory = '/x'\n[control_plane]\nurl = 'http://x'\nca_file = '{path}'\nroot_sha256 = '{'a' * 64}'\n"
        "[bootstrap]\nmethod = 'azure'\nnode_name = 'A'\nbogus = 1\n"
    )
    assert main(["--config", str(path), "--check-config"]) == 78
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 5
    for place in (
        "control_plane.url: must be https://host[:port]",
        "control_plane: give ca_file or root_sha256, not both",
        "bootstrap.node_name: ",
        "bootstrap.bogus: unknown setting",
        "bootstrap: the method azure needs audience",
    ):
        assert any(f"node-agent.toml: {place}" in line for line in said), place


def test_a_missing_table_is_named_with_the_keys_that_it_needs(tmp_path, capsys):
    path = tmp_path / "node-agent.toml"
    path.write_text("state_directory = '/x'\n")
    assert main(["--config", str(path), "--check-config"]) == 78
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "trunkline node-agent: node-agent.toml: control_plane: the table [control_plane] is missing; it needs url "
        "(or TRUNKLINE_NODE_AGENT__CONTROL_PLANE__URL)",
        "trunkline node-agent: node-agent.toml: bootstrap: the table [bootstrap] is missing; it needs method "
        "(or TRUNKLINE_NODE_AGENT__BOOTSTRAP__METHOD)",
    ]


def test_a_policy_and_a_proxy_that_cannot_be_used_are_named_by_check_config(kit, tmp_path, capsys):
    policy = tmp_path / "policy.toml"
    policy.write_text("nonsense = 1\n[ports.ssh]\n[[checks]]\nargv = ['x']\n")
    policy.chmod(0o600)
    path = tmp_path / "node-agent.toml"
    path.write_text(
        f"state_directory = '/x'\n[control_plane]\nurl = 'https://x'\nca_file = '{kit.ca_file}'\n"
        "[bootstrap]\nmethod = 'azure'\naudience = 'a'\n[proxy]\nurl = 'ftp://x'\n"
        f"[policy]\nfile = '{policy}'\n"
    )
    assert main(["--config", str(path), "--check-config"]) == 78
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "[proxy] url" in said[0]
    assert f"policy file {policy}: ports: 'ssh' is not a port number; checks.0.name: required, and not set;" in said[1]
    assert "nonsense: unknown setting; known here: checks, commands, files, init, ports" in said[1]


def test_a_ca_file_without_certificates_is_named_by_check_config(tmp_path, capsys):
    path = tmp_path / "node-agent.toml"
    path.write_text(
        f"state_directory = '/x'\n[control_plane]\nurl = 'https://x'\nca_file = '{path}'\n"
        "[bootstrap]\nmethod = 'azure'\naudience = 'a'\n"
    )
    assert main(["--config", str(path), "--check-config"]) == 78
    assert f"[control_plane]: cannot use the CA file {path}: it holds no PEM" in capsys.readouterr().err


def test_a_join_token_is_looked_for_by_check_config_while_the_machine_is_no_node(kit, tmp_path, capsys):
    token, path = tmp_path / "join-token", tmp_path / "node-agent.toml"
    path.write_text(
        f"state_directory = '{tmp_path}'\n[control_plane]\nurl = 'https://x'\nca_file = '{kit.ca_file}'\n"
        f"[bootstrap]\nmethod = 'join_token'\njoin_token_file = '{token}'\n"
    )
    told = []
    for text, mode in ((None, 0), ("tlj-x\n", 0o644), ("\n", 0o600), ("tlj-x\n", 0o600)):
        if text is not None:
            token.write_text(text)
            token.chmod(mode)
        status = main(["--config", str(path), "--check-config"])
        told.append((status, capsys.readouterr().err))
    assert [status for status, _ in told] == [78, 78, 78, 0]
    for (_, said), reason in zip(told, ("No such file", "chmod 600", "is empty", ""), strict=True):
        assert reason in said
    token.unlink()
    (tmp_path / "identity.json").touch()
    assert main(["--config", str(path), "--check-config"]) == 0


def test_the_example_settings_are_right(kit, tmp_path, capsys, monkeypatch):
    from pathlib import Path

    example = Path(__file__).parents[2] / "deploy" / "node-agent" / "node-agent.toml"
    policy = tmp_path / "policy.toml"
    policy.write_text(example.with_name("policy.toml").read_text())
    policy.chmod(0o600)
    path = tmp_path / "node-agent.toml"
    settings = example.read_text().replace("/etc/trunkline/ca.pem", str(kit.ca_file))
    path.write_text(settings.replace("/etc/trunkline/policy.toml", str(policy)))
    assert main(["--config", str(path), "--check-config"]) == 0
