"""Workspaces over the API."""

import pytest

from tests.support.control_planes import RunningControlPlane


async def test_create_get_list_delete(plane: RunningControlPlane):
    made = await plane.workspace("finance")
    path = f"{plane.account}/workspaces"
    assert made["workspace_id"].startswith("ws-")
    for address in ("finance", made["workspace_id"]):
        assert await plane.ok("GET", f"{path}/{address}") == made
    assert await plane.ok("GET", path) == {"workspaces": [made]}
    assert await plane.ok("DELETE", f"{path}/finance") == {}
    assert (await plane.call("GET", f"{path}/finance")).error_code == "RESOURCE_DOES_NOT_EXIST"
    assert (await plane.call("DELETE", f"{path}/finance")).status == 404


async def test_quotas_are_replaced_as_a_whole(plane: RunningControlPlane):
    await plane.workspace("finance")
    path = f"{plane.account}/workspaces/finance/quotas"
    assert await plane.ok("GET", path) == {"workspace": {}, "sender": {}}
    stated = {"workspace": {"calls_per_second": 50}, "sender": {"concurrent_calls": 3}}
    assert await plane.ok("PUT", path, stated) == stated
    assert await plane.ok("GET", path) == stated
    assert await plane.ok("PUT", path, {}) == {"workspace": {}, "sender": {}}
    assert await plane.ok("GET", path) == {"workspace": {}, "sender": {}}
    events = await plane.audit(action="workspace.set_quotas")
    assert [event["details"]["quotas"] for event in events][-1] == stated


@pytest.mark.parametrize(
    "body",
    [
        {"workspace": {"calls_per_second": 0}},
        {"workspace": {"calls_per_second": 1.5}},
        {"sender": {"bytes_per_second": "1"}},
        {"sender": {"calls": 1}},
        {"node": {}},
    ],
)
async def test_quotas_that_make_no_sense_are_refused(plane: RunningControlPlane, body: dict[str, object]):
    await plane.workspace("finance")
    answer = await plane.call("PUT", f"{plane.account}/workspaces/finance/quotas", body)
    assert (answer.status, answer.error_code) == (400, "INVALID_PARAMETER_VALUE")


async def test_created_twice_is_one(plane: RunningControlPlane):
    first = await plane.call("POST", f"{plane.account}/workspaces", {"workspace": "finance"})
    second = await plane.call("POST", f"{plane.account}/workspaces", {"workspace": "finance"})
    assert (first.status, second.status) == (201, 200)
    assert first.document == second.document
    assert len(await plane.audit(action="workspace.create")) == 1


async def test_a_name_given_again_is_another_workspace(plane: RunningControlPlane):
    first = await plane.workspace("finance")
    await plane.ok("DELETE", f"{plane.account}/workspaces/finance")
    assert (await plane.workspace("finance"))["workspace_id"] != first["workspace_id"]


async def test_deleting_takes_everything_with_it_and_revokes(plane: RunningControlPlane):
    node = await plane.node("vm-1", labels={"a": "b"})
    await plane.ok("POST", "/w/finance/api/2.0/clusters", {"cluster": "c", "nodes": ["vm-1"]})
    await plane.ok("POST", "/w/finance/api/2.0/commands", {"target": {"node": "vm-1"}, "argv": ["true"]})
    before = plane.control_plane.identities.trust.sequence
    await plane.ok("DELETE", f"{plane.account}/workspaces/finance")
    assert plane.control_plane.identities.trust.sequence > before
    assert (await plane.call("GET", "/w/finance/api/2.0/nodes")).status == 404
    answer = await plane.call("POST", "/api/2.0/nodes/self/listen-token", {}, identity=node.identity)
    assert (answer.status, answer.document["message"]) == (401, "this workspace was revoked")


async def test_pages(plane: RunningControlPlane):
    names = sorted(f"w{number}" for number in range(7))
    for name in names:
        await plane.workspace(name)
    found, token = [], ""
    while True:
        page = await plane.ok("GET", f"{plane.account}/workspaces?page_size=3{token}")
        found += [one["workspace"] for one in page["workspaces"]]
        if "next_page_token" not in page:
            break
        token = f"&page_token={page['next_page_token']}"
    assert found == names


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"workspace": "Finance"},
        {"workspace": "a.b"},
        {"workspace": 5},
        {"workspace": "x", "colour": "red"},
        {"workspace": "ws-" + "a" * 20},
        [],
        "x",
        None,
    ],
)
async def test_bad_bodies(plane: RunningControlPlane, body):
    answer = await plane.call("POST", f"{plane.account}/workspaces", body)
    assert (answer.status, answer.error_code) == (400, "INVALID_PARAMETER_VALUE")
    assert answer.document["details"]


@pytest.mark.parametrize("raw", [b'{"workspace":"a","workspace":"b"}', b'{"x":{"y":1,"y":2}}'])
async def test_a_name_that_is_given_twice_is_refused(plane: RunningControlPlane, raw: bytes):
    answer = await plane.call("POST", f"{plane.account}/workspaces", raw=raw)
    assert (answer.status, answer.error_code) == (400, "MALFORMED_REQUEST")
    assert "twice" in answer.document["message"]


async def test_all_problems_are_told_at_once(plane: RunningControlPlane):
    answer = await plane.call("POST", f"{plane.account}/workspaces", {"workspace": "", "a": 1, "b": 2})
    assert {one["field"] for one in answer.document["details"]} == {"workspace", "a", "b"}


async def test_another_account_is_not_there(plane: RunningControlPlane):
    assert (await plane.call("GET", "/api/2.0/accounts/ac-other/workspaces")).status == 404


@pytest.mark.parametrize(
    "query", ["page_size=0", "page_size=x", "page_token=x", "colour=red", "page_size=1&page_size=2"]
)
async def test_bad_queries(plane: RunningControlPlane, query: str):
    answer = await plane.call("GET", f"{plane.account}/workspaces?{query}")
    assert (answer.status, answer.error_code) == (400, "INVALID_PARAMETER_VALUE")
