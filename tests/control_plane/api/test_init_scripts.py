"""Init scripts of workspaces and clusters: the order, what is refused, and what the audit has of each change."""

import base64
import hashlib
from typing import Any

import pytest

from tests.support.control_planes import RunningControlPlane

SCRIPTS = "/w/finance/api/2.0/global-init-scripts"
OF_RED = "/w/finance/api/2.0/clusters/red/init-scripts"


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.fixture
async def finance(plane: RunningControlPlane) -> RunningControlPlane:
    await plane.workspace()
    await plane.ok("POST", "/w/finance/api/2.0/clusters", {"cluster": "red", "nodes": []})
    return plane


async def create(plane: RunningControlPlane, name: str, path: str = SCRIPTS, **fields: Any) -> dict[str, Any]:
    return await plane.ok("POST", path, {"name": name, "script": encoded(name.encode()), **fields})


async def names(plane: RunningControlPlane, path: str = SCRIPTS) -> list[str]:
    scripts = (await plane.ok("GET", path))["scripts"]
    assert [script["position"] for script in scripts] == list(range(len(scripts)))
    return [script["name"] for script in scripts]


@pytest.mark.parametrize("path", [SCRIPTS, OF_RED])
async def test_positions_shift_and_leave_no_gaps(finance: RunningControlPlane, path: str):
    for name in ("a", "b", "c"):
        await create(finance, name, path)
    assert await names(finance, path) == ["a", "b", "c"]
    assert (await create(finance, "first", path, position=0))["position"] == 0
    assert (await create(finance, "last", path, position=99))["position"] == 4
    assert (await create(finance, "third", path, position=2))["position"] == 2
    assert await names(finance, path) == ["first", "a", "third", "b", "c", "last"]
    for name, position, order in (
        ("last", 0, ["last", "first", "a", "third", "b", "c"]),
        ("last", 3, ["first", "a", "third", "last", "b", "c"]),
        ("first", 1_000_000, ["a", "third", "last", "b", "c", "first"]),
        ("third", 1, ["a", "third", "last", "b", "c", "first"]),
    ):
        await finance.ok("PATCH", f"{path}/{name}", {"position": position})
        assert await names(finance, path) == order
    await finance.ok("DELETE", f"{path}/last")
    assert await names(finance, path) == ["a", "third", "b", "c", "first"]


async def test_what_is_there_throughout_is_listed_once_while_others_come_and_go(finance: RunningControlPlane):
    for number in range(50):
        await create(finance, f"s{number:02}")
    seen: list[str] = []
    token = ""
    for gone in ("s00", "s01", "s40"):
        page = await finance.ok("GET", f"{SCRIPTS}?page_size=16{token}")
        seen += [script["name"] for script in page["scripts"]]
        token = f"&page_token={page['next_page_token']}"
        await finance.ok("DELETE", f"{SCRIPTS}/{gone}")
    await create(finance, "new", position=0)
    seen += [script["name"] for script in (await finance.ok("GET", f"{SCRIPTS}?page_size=16{token}"))["scripts"]]
    assert sorted(seen) == sorted(["new", *(f"s{number:02}" for number in range(50))])


async def test_a_script_is_what_was_put_in(finance: RunningControlPlane):
    content = b"#!/bin/bash\n\xff\x00 bytes\n"
    made = await finance.ok("POST", SCRIPTS, {"name": "Set up (v1.2)", "script": encoded(content)})
    assert (made["enabled"], made["position"], made["sha256"]) == (False, 0, hashlib.sha256(content).hexdigest())
    assert "script" not in made
    assert made["created_by"] == made["updated_by"]
    for address in (made["script_id"], "Set%20up%20(v1.2)"):
        got = await finance.ok("GET", f"{SCRIPTS}/{address}")
        assert base64.b64decode(got["script"]) == content
    assert "script" not in (await finance.ok("GET", SCRIPTS))["scripts"][0]


async def test_a_creation_sent_twice_is_one(finance: RunningControlPlane):
    body = {"name": "a", "script": encoded(b"true"), "enabled": True, "position": 0}
    first = await finance.call("POST", SCRIPTS, body)
    second = await finance.call("POST", SCRIPTS, body)
    assert (first.status, second.status, first.document) == (201, 200, second.document)
    last = {"name": "b", "script": encoded(b"true"), "position": 99}
    assert [(await finance.call("POST", SCRIPTS, last)).status for _ in range(2)] == [201, 200]
    for other in ({"script": encoded(b"false")}, {"enabled": False}, {"position": 1}):
        answer = await finance.call("POST", SCRIPTS, body | other)
        assert (answer.status, answer.error_code) == (409, "RESOURCE_CONFLICT")
    assert await names(finance) == ["a", "b"]


async def test_each_change_is_audited_with_the_hash_and_who(finance: RunningControlPlane):
    made = await create(finance, "a", enabled=True)
    await finance.ok("PATCH", f"{SCRIPTS}/a", {"name": "a", "script": encoded(b"a"), "enabled": True})
    await finance.ok("PATCH", f"{SCRIPTS}/a", {"script": encoded(b"other"), "name": "b"})
    await finance.ok("DELETE", f"{SCRIPTS}/b")
    await create(finance, "c", OF_RED)
    events = [event for event in await finance.audit() if event["action"].startswith("init_script.")]
    told = [(event["action"].partition(".")[2], event["resource"], event["details"]["sha256"]) for event in events]
    a, other, c = (hashlib.sha256(content).hexdigest() for content in (b"a", b"other", b"c"))
    assert told == [("create", "c", c), ("delete", "b", other), ("change", "b", other), ("create", "a", a)]
    assert all(event["actor"].startswith("operator/") for event in events)
    assert events[-1]["details"] == {"script_id": made["script_id"], "sha256": a, "position": 0, "enabled": True}
    assert events[0]["details"]["cluster"] == "red"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"script": "not base64!"}, "base64"),
        ({"script": ""}, "1 to 65536"),
        ({"script": encoded(b"x" * 65537)}, "65536"),
        ({"script": encoded(b"#!/bin/bash\r\ntrue\r\n")}, "LF"),
        ({"name": "is-" + "a" * 20}, "id"),
        ({"name": "a/b"}, "name"),
        ({"name": ""}, "name"),
        ({"position": -1}, "position"),
        ({"enabled": "yes"}, "enabled"),
        ({"run_as": "root"}, "unknown key"),
        ({"secrets": {}}, "secrets"),
    ],
)
async def test_what_is_no_script_is_refused(finance: RunningControlPlane, fields: dict[str, Any], problem: str):
    answer = await finance.call("POST", SCRIPTS, {"name": "a", "script": encoded(b"true"), **fields})
    assert (answer.status, answer.error_code) == (400, "INVALID_PARAMETER_VALUE")
    assert problem in answer.document["message"]
    assert await names(finance) == []


async def test_the_largest_script_is_taken_and_lists_are_bounded(finance: RunningControlPlane):
    await finance.ok("POST", OF_RED, {"name": "large", "script": encoded(b"x" * 65536)})
    for number in range(9):
        await create(finance, f"s{number}", OF_RED)
    answer = await finance.call("POST", OF_RED, {"name": "more", "script": encoded(b"true")})
    assert (answer.status, answer.error_code) == (400, "RESOURCE_LIMIT_EXCEEDED")
    await create(finance, "large")  # another list, with names of its own
    page = await finance.ok("GET", f"{OF_RED}?page_size=4")
    rest = await finance.ok("GET", f"{OF_RED}?page_size=100&page_token={page['next_page_token']}")
    assert [script["position"] for script in page["scripts"] + rest["scripts"]] == list(range(10))


async def test_names_in_use_and_secrets_that_do_not_exist(finance: RunningControlPlane):
    await create(finance, "a")
    await create(finance, "b")
    assert (await finance.call("PATCH", f"{SCRIPTS}/a", {"name": "b"})).status == 409
    secrets = {"environment": {"PASSWORD": "db/password"}}
    body = {"name": "c", "script": encoded(b"c"), "secrets": secrets}
    assert (await finance.call("POST", SCRIPTS, body)).status == 404
    await finance.ok("POST", "/w/finance/api/2.0/secrets/scopes/create", {"scope": "db"})
    await finance.ok("POST", "/w/finance/api/2.0/secrets/put", {"scope": "db", "key": "password", "string_value": "x"})
    assert (await finance.ok("POST", SCRIPTS, body))["secrets"] == secrets
    assert "secrets" not in await finance.ok("PATCH", f"{SCRIPTS}/c", {"secrets": None})


async def test_a_cluster_shows_its_scripts_and_takes_them_with_it(finance: RunningControlPlane):
    made = await create(finance, "a", OF_RED, enabled=True)
    shown = [{"script_id": made["script_id"], "name": "a", "enabled": True}]
    assert (await finance.ok("GET", "/w/finance/api/2.0/clusters/red"))["init_scripts"] == shown
    assert (await finance.ok("GET", "/w/finance/api/2.0/clusters"))["clusters"][0]["init_scripts"] == shown
    assert (await finance.call("GET", f"{SCRIPTS}/{made['script_id']}")).status == 404, "it is no global one"
    await finance.ok("DELETE", "/w/finance/api/2.0/clusters/red")
    await finance.ok("POST", "/w/finance/api/2.0/clusters", {"cluster": "red", "nodes": []})
    assert await names(finance, OF_RED) == []


async def test_other_workspaces_have_scripts_of_their_own(finance: RunningControlPlane):
    made = await create(finance, "a")
    await finance.workspace("legal")
    for address in ("a", made["script_id"]):
        for method in ("GET", "PATCH", "DELETE"):
            answer = await finance.call(method, f"/w/legal/api/2.0/global-init-scripts/{address}", {})
            assert answer.status == 404
    await finance.ok("DELETE", f"{finance.account}/workspaces/finance")
    await finance.workspace()
    assert await names(finance) == []
