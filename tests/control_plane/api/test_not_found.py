"""What is not there: every route says so without repeating what it was asked for, and where to look instead."""

import json
import re
from typing import Any

import pytest

from control_plane.api.callers import Role, Route
from tests.support.control_planes import Answer, RunningControlPlane
from trunkline.cli.listings import with_commands

# What somebody puts by mistake where an id or a name belongs; each fits into the field of a body.
MISPLACED = ("tlo-QmFzZTY0LXNlY3JldC1vZi1hbi1vcGVyYXRvcg", "eyJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJ4In0.c2ln", "tlj-a'b c")
PLACEHOLDER = re.compile(r"\{(\w+)\}")
TARGETED = {"target": {"node": "vm-1"}, "argv": ["true"]}
BODIES: dict[str, dict[str, Any]] = {
    "POST /api/2.0/accounts/{account}/workspaces": {"workspace": "legal"},
    "POST /api/2.0/accounts/{account}/relay-join-tokens": {
        "name": "relay-9",
        "dns_names": ["relay.example.com"],
        "lifetime_seconds": 60,
    },
    "POST /api/2.0/accounts/{account}/rotations/{kind}/{step}": {},
    "POST /api/2.0/accounts/{account}/signing-keys/{key_id}/revoke": {"reason": "test"},
    "POST /w/{workspace}/api/2.0/clusters": {"cluster": "blue", "nodes": []},
    "PATCH /w/{workspace}/api/2.0/clusters/{cluster}": {"add": ["vm-1"]},
    "POST /w/{workspace}/api/2.0/join-tokens": {"lifetime_seconds": 60},
    "POST /w/{workspace}/api/2.0/global-init-scripts": {"name": "setup", "script": "dHJ1ZQ=="},
    "PATCH /w/{workspace}/api/2.0/global-init-scripts/{script_id}": {"enabled": True},
    "POST /w/{workspace}/api/2.0/clusters/{cluster}/init-scripts": {"name": "setup", "script": "dHJ1ZQ=="},
    "PATCH /w/{workspace}/api/2.0/clusters/{cluster}/init-scripts/{script_id}": {"enabled": True},
    "POST /w/{workspace}/api/2.0/nodes/{node}/init": {"run": 2},
    "POST /w/{workspace}/api/2.0/join-policies": {
        "join_policy": "web",
        "platform": "aws",
        "conditions": {"accounts": ["123456789012"]},
    },
    "POST /w/{workspace}/api/2.0/join-requests/{join_request_id}/approve": {},
    "POST /w/{workspace}/api/2.0/join-requests/{join_request_id}/deny": {},
    "POST /w/{workspace}/api/2.0/tokens/call": {"node": "vm-1", "scopes": ["health:read"], "lifetime_seconds": 60},
    "POST /w/{workspace}/api/2.0/tokens/workspace": {"ports": [9100], "lifetime_seconds": 60},
    "POST /w/{workspace}/api/2.0/commands": TARGETED,
    "POST /w/{workspace}/api/2.0/commands/{command_id}/cancel": {},
    "POST /w/{workspace}/api/2.0/submissions/{submission_id}/cancel": {},
    "POST /w/{workspace}/api/2.0/secrets/scopes/create": {"scope": "db"},
    "POST /w/{workspace}/api/2.0/secrets/scopes/delete": {"scope": "db"},
    "POST /w/{workspace}/api/2.0/secrets/put": {"scope": "db", "key": "k", "string_value": "v"},
    "POST /w/{workspace}/api/2.0/secrets/delete": {"scope": "db", "key": "k"},
    "POST /w/{workspace}/api/2.0/secrets/grants/put": {"scope": "db", "target": {"node": "vm-1"}},
    "POST /w/{workspace}/api/2.0/secrets/grants/delete": {"scope": "db", "target": {"node": "vm-1"}},
    "POST /api/2.0/accounts/{account}/secrets/rotate-key": {},
}
QUERIES = {
    "GET /w/{workspace}/api/2.0/secrets/list": "?scope=db",
    "GET /w/{workspace}/api/2.0/secrets/grants/list": "?scope=db",
    "GET /w/{workspace}/api/2.0/secrets/adoption": "?scope=db&key=k",
}
NAMED_IN_BODIES: list[tuple[str, dict[str, Any], str]] = [
    ("POST commands", TARGETED | {"target": {"node": "?"}}, "target.node"),
    ("POST commands", TARGETED | {"target": {"cluster": "?"}}, "target.cluster"),
    ("POST clusters", {"cluster": "blue", "nodes": ["vm-1", "?"]}, "nodes.1"),
    ("PATCH clusters/red", {"add": ["?"]}, "add.0"),
    ("PATCH clusters/red", {"remove": ["vm-1", "?"]}, "remove.1"),
    ("POST tokens/call", {"node": "?", "scopes": ["health:read"], "lifetime_seconds": 60}, "node"),
    ("POST join-tokens", {"lifetime_seconds": 60, "cluster": "?"}, "cluster"),
    (
        "POST join-policies",
        {"join_policy": "web", "platform": "aws", "conditions": {"accounts": ["1"]}, "cluster": "?"},
        "cluster",
    ),
]


@pytest.fixture
async def peopled(plane: RunningControlPlane) -> RunningControlPlane:
    await plane.node("vm-1")
    await plane.ok("POST", "/w/finance/api/2.0/clusters", {"cluster": "red", "nodes": ["vm-1"]})
    return plane


def check(answer: Answer, misplaced: str, where: str) -> None:
    assert (answer.status, answer.error_code) == (404, "RESOURCE_DOES_NOT_EXIST"), (where, answer)
    said = json.dumps(answer.document) + json.dumps(answer.headers)
    assert misplaced not in said, where
    assert misplaced[:12] not in said, where
    message = answer.document["message"]
    assert re.search(r"there is no such [a-z ]+; GET /\S+ lists what there is$", message), answer
    if "such account" not in message and "such revocation" not in message:  # no command lists these
        assert re.search(r"; `trunkline [^`]+` lists what there is$", with_commands(message)), answer


def quoted(text: str) -> str:
    return text.replace("'", "%27").replace(" ", "%20")


def paths(route: Route, plane: RunningControlPlane, misplaced: str) -> dict[str, str]:
    """The route's paths with what was misplaced in one place each, by the place; what is before it exists."""
    known = {
        "account": plane.foundation.account_id,
        "workspace": "finance",
        "node": "vm-1",
        "cluster": "red",
        "kind": "ca",
    }
    names = PLACEHOLDER.findall(route.path)
    return {
        wrong: PLACEHOLDER.sub(
            lambda found: quoted(misplaced) if found[1] == wrong else known.get(found[1], "unknown"),  # noqa: B023
            route.path,
        )
        + QUERIES.get(f"{route.method} {route.path}", "")
        for wrong in names
    }


@pytest.mark.parametrize("misplaced", MISPLACED)
async def test_no_route_repeats_what_its_path_asked_for(peopled: RunningControlPlane, misplaced: str):
    routes = [route for route in peopled.control_plane.routes if PLACEHOLDER.search(route.path)]
    assert all(route.role is Role.OPERATOR for route in routes)
    assert len(routes) > 25
    for route in routes:
        name = f"{route.method} {route.path}"
        body = BODIES[name] if route.method in ("POST", "PATCH") else None
        for wrong, path in paths(route, peopled, misplaced).items():
            check(await peopled.call(route.method, path, body), misplaced, f"{wrong} of {name}")


@pytest.mark.parametrize("misplaced", MISPLACED)
@pytest.mark.parametrize(("route", "body", "field"), NAMED_IN_BODIES)
async def test_no_route_repeats_what_its_body_asked_for(
    peopled: RunningControlPlane, misplaced: str, route: str, body: dict[str, Any], field: str
):
    method, _, path = route.partition(" ")
    raw = json.dumps(body).replace('"?"', json.dumps(misplaced)).encode()
    answer = await peopled.call(method, f"/w/finance/api/2.0/{path}", raw=raw)
    check(answer, misplaced, route)
    assert answer.document["message"].startswith(f"{field}: ")
    assert [one["field"] for one in answer.document["details"]] == [field]


async def test_the_message_says_where_to_look(peopled: RunningControlPlane):
    node = await peopled.call("GET", "/w/finance/api/2.0/nodes/vm-9")
    listed = "/w/finance/api/2.0/nodes"
    assert node.document["message"] == (
        f"there is no such node in the workspace finance; GET {listed} lists what there is"
    )
    for path in (
        "/w/finance/api/2.0/nodes/x",
        "/w/finance/api/2.0/clusters/x",
        "/w/finance/api/2.0/commands/x",
        "/w/nowhere/api/2.0/nodes",
        "/api/2.0/accounts/ac-x/relays",
    ):
        message = (await peopled.call("GET", path)).document["message"]
        listed = message.split("GET ")[1].split(" ")[0]
        await peopled.ok("GET", listed)
    for path in ("/w/finance/api/2.0/join-tokens/x", f"{peopled.account}/relays/x"):
        message = (await peopled.call("DELETE", path)).document["message"]
        await peopled.ok("GET", message.split("GET ")[1].split(" ")[0])
