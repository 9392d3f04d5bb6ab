"""Tokens for senders: bounded lifetimes, known scopes, the right audience."""

from pathlib import Path

import pytest

from certs.tokens import TokenKind
from tests.support.control_planes import RunningControlPlane, running_control_plane, settings_for

PATH = "/w/finance/api/2.0/tokens"


async def test_a_call_token(plane: RunningControlPlane):
    node = await plane.node("vm-1")
    await plane.relay("relay-1", 8443)
    body = {"node": "vm-1", "scopes": ["command:submit", "port:4040"], "lifetime_seconds": 900}
    answer = await plane.ok("POST", f"{PATH}/call", body)
    assert answer["host"] == "vm-1.finance.trunk.internal"
    assert [one["url"] for one in answer["relays"]] == ["https://relay-1.test:8443"]
    now = plane.foundation.clock.now()
    claims = (await plane.verifier()).verify(answer["token"], TokenKind.CALL, now)
    assert claims.audience == str(node.identity.chain.spiffe_id)
    assert claims.subject.startswith("operator/op-")
    assert str(claims.scopes) == "command:submit port:4040"
    assert answer["expire_time"] == claims.expires_at * 1000
    [event] = await plane.audit(action="token.issue_call")
    assert event["details"]["token_id"] == claims.token_id
    assert answer["token"] not in str(await plane.audit())


async def test_a_workspace_token(plane: RunningControlPlane):
    made = await plane.workspace()
    answer = await plane.ok("POST", f"{PATH}/workspace", {"ports": [9100, 9200], "lifetime_seconds": 30 * 86400})
    claims = (await plane.verifier()).verify(answer["token"], TokenKind.WORKSPACE, plane.foundation.clock.now())
    assert claims.audience == f"spiffe://trunkline.test/workspace/{made['workspace_id']}"
    assert claims.scopes.ports == {9100, 9200}
    assert "host" not in answer


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("call", {"node": "vm-1", "scopes": ["root"], "lifetime_seconds": 60}, 400),
        ("call", {"node": "vm-1", "scopes": ["port:0"], "lifetime_seconds": 60}, 400),
        ("call", {"node": "vm-1", "scopes": ["port:65536"], "lifetime_seconds": 60}, 400),
        ("call", {"node": "vm-1", "scopes": ["port:080"], "lifetime_seconds": 60}, 400),
        ("call", {"node": "vm-1", "scopes": [], "lifetime_seconds": 60}, 400),
        ("call", {"node": "vm-1", "scopes": ["health:read"] * 2, "lifetime_seconds": 60}, 400),
        ("call", {"node": "vm-1", "scopes": ["health:read"], "lifetime_seconds": 901}, 400),
        ("call", {"node": "vm-1", "scopes": ["health:read"], "lifetime_seconds": 0}, 400),
        ("call", {"node": "vm-1", "scopes": ["health:read"], "lifetime_seconds": 1.5}, 400),
        ("call", {"node": "vm-1", "scopes": ["health:read"], "lifetime_seconds": True}, 400),
        ("call", {"node": "vm-9", "scopes": ["health:read"], "lifetime_seconds": 60}, 404),
        ("call", {"node": "vm-1", "scopes": ["health:read"], "lifetime_seconds": 60, "sub": "me"}, 400),
        ("workspace", {"ports": [80], "lifetime_seconds": 60}, 400),
        ("workspace", {"ports": [443], "lifetime_seconds": 60}, 400),
        ("workspace", {"ports": [], "lifetime_seconds": 60}, 400),
        ("workspace", {"ports": [9100, 9100], "lifetime_seconds": 60}, 400),
        ("workspace", {"ports": [70000], "lifetime_seconds": 60}, 400),
        ("workspace", {"ports": [9100], "lifetime_seconds": 30 * 86400 + 1}, 400),
    ],
)
async def test_bad_requests(plane: RunningControlPlane, kind: str, body: dict[str, object], status: int):
    await plane.node("vm-1")
    assert (await plane.call("POST", f"{PATH}/{kind}", body)).status == status


async def test_a_call_token_without_a_lifetime_has_the_longest_that_the_settings_allow(tmp_path: Path):
    settings = settings_for(tmp_path, tokens={"longest_call_seconds": 300})
    async with running_control_plane(tmp_path, settings=settings) as plane:
        await plane.node("vm-1")
        asked = {"node": "vm-1", "scopes": ["health:read"]}
        answer = await plane.ok("POST", f"{PATH}/call", asked)
        claims = (await plane.verifier()).verify(answer["token"], TokenKind.CALL, plane.foundation.clock.now())
        assert claims.expires_at - claims.issued_at == 300
        assert (await plane.call("POST", f"{PATH}/call", asked | {"lifetime_seconds": 301})).status == 400
