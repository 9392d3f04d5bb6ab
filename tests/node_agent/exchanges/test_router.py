import asyncio
import json

import pytest

from certs.assertions import AssertionSigner
from certs.tokens import LEEWAY_SECONDS, TokenKind
from certs.trust import TrustVerdict
from node_agent.exchanges import control
from node_agent.exchanges.callers import Caller, Callers
from node_agent.exchanges.control import MOST_NOTICES
from tests.support.agent_exchanges import AgentTrust, agent_in_memory
from trunkline.channel.outcomes import Outcome


async def test_a_call_with_the_right_token_is_answered(agent):
    answer = await agent.call("GET", "/v1/health")
    assert answer.status == 200
    assert json.loads(answer.body)["node_id"] == "nd-one"
    assert answer.fields["server"] == "trunkline-node-agent", "no versions of what it is built from"


async def test_many_calls_at_once(agent):
    answers = await asyncio.gather(*[agent.call("GET", "/v1/health") for _ in range(100)])
    assert {answer.status for answer in answers} == {200}


async def test_without_a_token_nothing_is_answered(agent):
    answer = await agent.call("GET", "/v1/health", token=None)
    assert (answer.status, json.loads(answer.body)["error_code"]) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize("token", ["x", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "é"])
async def test_what_is_no_token_is_refused(agent, token):
    assert (await agent.call("GET", "/v1/health", token=token)).status in (400, 401)


async def test_tokens_for_others_and_of_other_kinds_are_refused(agent, kit):
    other_node = kit.call_token(target=kit.node_spiffe_id(node="nd-two"))
    other_workspace = kit.call_token(target=kit.node_spiffe_id(workspace="ws-other"))
    assert (await agent.call("GET", "/v1/health", token=other_node)).status == 404
    assert (await agent.call("GET", "/v1/health", token=other_workspace)).status == 404
    for token in (kit.workspace_token(80 + 9020), kit.listen_token(kit.issue_node())):
        assert (await agent.call("GET", "/v1/health", token=token)).status == 401


async def test_a_scope_opens_its_routes_only(agent, kit):
    token = kit.call_token("metrics:read")
    assert (await agent.call("GET", "/v1/metrics", token=token)).status == 200
    answer = await agent.call("GET", "/v1/health", token=token)
    assert (answer.status, json.loads(answer.body)["error_code"]) == (403, "PERMISSION_DENIED")


async def test_a_revoked_token_is_refused(agent, kit):
    token = kit.call_token()
    assert (await agent.call("GET", "/v1/health", token=token)).status == 200
    agent.revoked.add(kit.verifier().verify(token, "tl-call+jwt", kit.now).token_id)
    assert (await agent.call("GET", "/v1/health", token=token)).status == 401


async def test_an_assertion_opens_no_api(agent, kit):
    signer = AssertionSigner(kit.issue_relay())
    origin = kit.verifier().verify(kit.workspace_token(9100), "tl-workspace+jwt", kit.now)
    assertion = signer.issue(origin, kit.node_spiffe_id(), 9100, now=kit.now).text
    assert (await agent.call("GET", "/v1/health", token=assertion)).status == 403
    assert (await agent.call("GET", "/v1/health", token=assertion, port=443)).status == 403


async def test_port_443_is_reserved(agent, kit):
    assert (await agent.call("GET", "/", token=kit.call_token("port:443"), port=443)).status == 403


@pytest.mark.parametrize(
    "raw",
    [
        b"\0\0\0\0",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET /v1/health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_refused(agent, raw):
    assert (await agent.exchange(raw)).status in (400, 431, 505)


async def test_a_head_that_does_not_come_is_given_up(kit, ledger, policy, log, tmp_path, rng):
    trust = AgentTrust(kit.node_spiffe_id(), kit.verifier())
    async with agent_in_memory(kit, trust, ledger, policy, log, tmp_path, rng, head_seconds=0.1) as agent:
        reader, writer = agent.open()
        writer.write(b"GET / HTTP/1.1\r\n")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_a_notice_reaches_the_link(agent):
    body = b'{"type":"draining"}'
    head = b"POST /v1/notice HTTP/1.1\r\nHost: link.internal\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert (await agent.exchange(head + body)).status == 204
    assert agent.notices == [{"type": "draining"}]


@pytest.mark.parametrize("body", [b"{}", b"[]", b"x", b'{"type":1}', b"[" * 5000])
async def test_what_is_no_notice_is_refused(agent, body):
    head = b"POST /v1/notice HTTP/1.1\r\nHost: link.internal\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert (await agent.exchange(head + body)).status == 400
    assert agent.notices == []


async def test_a_notice_is_collected_up_to_a_bound(agent, monkeypatch):
    body = b'{"type":"draining"}'
    head = b"POST /v1/notice HTTP/1.1\r\nHost: link.internal\r\nContent-Length: %d\r\n\r\n" % len(body)
    monkeypatch.setattr(control, "MAX_NOTICE_BYTES", len(body) - 1)
    assert (await agent.exchange(head + body)).status == 413
    assert agent.notices == []
    monkeypatch.setattr(control, "MAX_NOTICE_BYTES", len(body))
    assert (await agent.exchange(head + body)).status == 204


async def test_a_relay_cannot_have_notices_without_number_collected_at_once(agent):
    """They may have four megabytes each; the machine's other processes are what the kernel would end for the agent."""
    body = b'{"type":"draining"}'
    head = b"POST /v1/notice HTTP/1.1\r\nHost: link.internal\r\nContent-Length: %d\r\n\r\n" % len(body)
    begun = [agent.open() for _ in range(MOST_NOTICES)]
    for _, writer in begun:
        writer.write(head + body[:-1])
    assert (await agent.exchange(head + body)).status == 429
    for reader, writer in begun[:-1]:
        writer.write(body[-1:])
        assert b" 204 " in await reader.readline()
    begun[-1][1].transport.abort()
    for _ in range(2 * MOST_NOTICES):
        assert (await agent.exchange(head + body)).status == 204
    for _, writer in begun[:-1]:
        writer.close()


async def test_other_control_exchanges_are_refused(agent):
    assert (await agent.exchange(b"GET /v1/health HTTP/1.1\r\nHost: link.internal\r\n\r\n")).status == 404


async def test_garbage_inside_connect_is_refused_without_a_traceback(agent, kit, caplog):
    reader, writer = agent.open()
    writer.write(
        f"CONNECT vm-1:80 HTTP/1.1\r\nHost: vm-1:80\r\nProxy-Authorization: Bearer {kit.call_token()}\r\n\r\n".encode()
        + b"\0\1\2 garbage\r\n\r\n"
    )
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 OK\r\n\r\n"
    assert b" 400 " in await reader.readline()
    assert not any(record.exc_info for record in caplog.records)
    writer.close()


async def test_the_api_inside_connect(agent, kit):
    reader, writer = agent.open()
    writer.write(
        f"CONNECT vm-1.finance.trunk.internal:80 HTTP/1.1\r\nHost: vm-1.finance.trunk.internal:80\r\n"
        f"Proxy-Authorization: Bearer {kit.call_token()}\r\n\r\n".encode()
    )
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 OK\r\n\r\n"
    for _ in range(2):
        writer.write(b"GET /v1/health HTTP/1.1\r\nHost: vm-1\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        assert json.loads(await reader.readexactly(length))["status"] == "ok"
    writer.close()
    await writer.wait_closed()


class SetClock:
    """A clock that is set by hand."""

    def __init__(self, now: float) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


async def test_a_tunnel_to_the_api_outlives_no_revocation(agent, kit):
    reader, writer = agent.open()
    token = kit.call_token()
    writer.write(f"CONNECT vm-1:80 HTTP/1.1\r\nHost: vm-1:80\r\nProxy-Authorization: Bearer {token}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    agent.revoked.add(kit.verifier().verify(token, TokenKind.CALL, kit.now).token_id)
    writer.write(b"PUT /v1/commands/c-1 HTTP/1.1\r\nHost: vm-1\r\nContent-Length: 17\r\n\r\n" + b'{"argv":["true"]}')
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401 ")
    writer.close()


def test_a_caller_begins_no_call_with_a_token_that_has_expired_meanwhile(kit):
    clock = SetClock(kit.now)
    callers = Callers(kit.node_spiffe_id(), kit.verifier(), lambda claims: None, clock)
    caller = callers.admit(f"Bearer {kit.call_token(lifetime_seconds=600)}".encode())
    assert isinstance(caller, Caller)
    assert callers.stale(caller) is None
    clock.time += 600 + LEEWAY_SECONDS
    refusal = callers.stale(caller)
    assert refusal is not None
    assert refusal.outcome is Outcome.EXPIRED_TOKEN


@pytest.mark.parametrize(("locked", "outcome", "status"), [(True, Outcome.LOCKED, 403), (False, Outcome.REVOKED, 401)])
def test_what_is_locked_is_told_from_what_is_revoked(kit, locked, outcome, status):
    verdict = TrustVerdict(locked, "node", "nd-one")
    callers = Callers(kit.node_spiffe_id(), kit.verifier(), lambda claims: verdict, SetClock(kit.now))
    refusal = callers.admit(f"Bearer {kit.call_token()}".encode())
    assert not isinstance(refusal, Caller)
    assert (refusal.outcome, refusal.outcome.http_status) == (outcome, status)


async def test_refusals_are_told_for_the_report(agent, kit):
    await agent.call("GET", "/v1/health", token=None)
    await agent.call("GET", "/", token=kit.call_token("port:9"), port=9)
    assert agent.refused == ["no_token", "port_not_allowed"]
