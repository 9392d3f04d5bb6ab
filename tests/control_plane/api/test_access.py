"""Every route against every credential: only the role that it is for gets through, and refusals are audited."""

from pathlib import Path

import pytest

from certs.identities import Identity
from control_plane.api.callers import Role, Route
from tests.support.control_planes import RunningControlPlane, running_control_plane


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[Route]:
    import asyncio

    async def collect(path: Path) -> list[Route]:
        async with running_control_plane(path) as plane:
            return list(plane.control_plane.routes)

    return asyncio.run(collect(tmp_path_factory.mktemp("routes")))


def address(route: Route, plane: RunningControlPlane) -> str:
    workspace = "nothing" if route.method == "DELETE" else "finance"
    path = route.path.replace("{account}", plane.foundation.account_id).replace("{workspace}", workspace)
    joins = ("join_token_id", "join_policy", "join_request_id", "script_id")
    commands = ("command_id", "submission_id")
    for name in ("node", "cluster", *commands, *joins, "relay_id", "lock_id", "kind", "id", "step", "key_id"):
        path = path.replace("{" + name + "}", "nothing")
    return path


async def test_the_matrix(plane: RunningControlPlane):
    """For every route and credential: the status is a refusal of the credential exactly if the role is wrong."""
    node = await plane.node("vm-1")
    other = await plane.node("vm-2", workspace="legal")
    relay = await plane.relay()
    own = plane.control_plane.identities.own.svid
    minted = await plane.ok(
        "POST",
        "/w/finance/api/2.0/tokens/call",
        {"node": "vm-1", "scopes": ["command:submit"], "lifetime_seconds": 60},
    )
    foreign = plane.forged_node(node.workspace_id)
    credentials: dict[str, tuple[str | None, Identity | None, Role | None]] = {
        "nothing": (None, None, None),
        "operator": ("operator", None, Role.OPERATOR),
        "wrong operator token": ("tlo-wrong", None, None),
        "truncated operator token": (plane.operator_token[:-1], None, None),
        "empty token": ("", None, None),
        "huge token": ("x" * 8000, None, None),
        "call token": (minted["token"], None, None),
        "listen token": (node.answer["listen_token"], None, None),
        "node": (None, node.identity, Role.NODE),
        "node of another workspace": (None, other.identity, Role.NODE),
        "node that is not on record": (None, foreign, None),
        "relay": (None, relay.identity, Role.RELAY),
        "relay that is not on record": (None, plane.forged_relay(), None),
        "control plane": (None, own, None),
    }
    for route in plane.control_plane.routes:
        if route.path.endswith("/events") or route.role is Role.PUBLIC:
            continue
        for name, (token, identity, role) in credentials.items():
            answer = await plane.call(route.method, address(route, plane), {}, token=token, identity=identity)
            where = f"{name} on {route.method} {route.path}: {answer}"
            if role is route.role:
                assert answer.status not in (401, 403), where
            else:
                assert answer.status in (401, 403), where
                assert answer.error_code in ("UNAUTHENTICATED", "PERMISSION_DENIED"), where
                assert ("WWW-Authenticate" in answer.headers) == (answer.status == 401), where
    audited = {event["action"] for event in await plane.audit()}
    for route in plane.control_plane.routes:
        if route.role is not Role.PUBLIC and not route.path.endswith("/events"):
            assert f"{route.method} {route.path}" in audited


async def test_the_feed_is_for_relays_only(plane: RunningControlPlane):
    node = await plane.node("vm-1")
    path = "/api/2.0/trust-document/events"
    assert (await plane.call("GET", path, token=None)).status == 401
    assert (await plane.call("GET", path)).status == 401
    assert (await plane.call("GET", path, identity=node.identity)).status == 403


def test_public_routes_are_these(routes: list[Route]):
    assert sorted(f"{route.method} {route.path}" for route in routes if route.role is Role.PUBLIC) == [
        "GET /api/2.0/trust-document",
        "POST /api/2.0/bootstrap",
        "POST /api/2.0/bootstrap/challenge",
        "POST /api/2.0/nodes/late-renewal",
        "POST /api/2.0/relays/enrol",
        "POST /api/2.0/relays/late-renewal",
    ]


@pytest.mark.parametrize("kind", ["node", "certificate", "workspace"])
async def test_a_revoked_node_is_refused(plane: RunningControlPlane, kind: str):
    node = await plane.node("vm-1")
    name = {"node": node.node_id, "certificate": node.identity.chain.serial, "workspace": node.workspace_id}[kind]
    await plane.ok("POST", "/api/2.0/revocations", {"kind": kind, "id": name})
    for path in ("nodes/self/renew", "nodes/self/listen-token", "bootstrap/confirm"):
        answer = await plane.call("POST", f"/api/2.0/{path}", {"csr": "x"}, identity=node.identity)
        assert (answer.status, answer.document["message"]) == (401, f"this {kind} was revoked")


async def test_a_deleted_node_and_a_deleted_relay_are_refused(plane: RunningControlPlane):
    node, relay = await plane.node("vm-1"), await plane.relay()
    await plane.ok("DELETE", "/w/finance/api/2.0/nodes/vm-1")
    await plane.ok("DELETE", f"{plane.account}/relays/{relay.relay_id}")
    assert (await plane.call("POST", "/api/2.0/nodes/self/renew", {}, identity=node.identity)).status == 401
    assert (await plane.call("PUT", "/api/2.0/relays/self", {"port": 1}, identity=relay.identity)).status == 401


async def test_a_node_whose_name_was_given_away_is_still_refused(plane: RunningControlPlane):
    first = await plane.node("vm-1")
    await plane.ok("DELETE", "/w/finance/api/2.0/nodes/vm-1")
    second = await plane.node("vm-1")
    assert (await plane.call("POST", "/api/2.0/nodes/self/listen-token", {}, identity=first.identity)).status == 401
    await plane.ok("POST", "/api/2.0/nodes/self/listen-token", {}, identity=second.identity)


async def test_every_answer_has_its_headers(plane: RunningControlPlane):
    for method, path, token in [
        ("GET", "/api/2.0/accounts", "operator"),
        ("GET", "/api/2.0/accounts", None),
        ("GET", "/nowhere", None),
        ("PATCH", "/api/2.0/accounts", None),
    ]:
        answer = await plane.call(method, path, token=token)
        assert answer.headers["Strict-Transport-Security"].startswith("max-age=31536000")
        assert answer.headers["Trunkline-Request-Id"].startswith("rq-")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_what_is_not_there(plane: RunningControlPlane):
    nowhere = await plane.call("GET", "/nowhere", token=None)
    assert (nowhere.status, nowhere.error_code) == (404, "ENDPOINT_NOT_FOUND")
    wrong = await plane.call("DELETE", "/api/2.0/accounts")
    assert (wrong.status, wrong.error_code, wrong.document["message"]) == (405, "METHOD_NOT_ALLOWED", "use GET here")


async def test_of_two_credentials_none_is_chosen(plane: RunningControlPlane):
    both = [("Authorization", f"Bearer {plane.operator_token}"), ("Authorization", "Bearer tlo-wrong")]
    for headers in (both, both[::-1]):
        async with plane.session().get(f"{plane.url}{plane.account}/workspaces", headers=headers) as response:
            answer = await response.json()
        assert (response.status, answer["message"]) == (401, "send one Authorization field")
