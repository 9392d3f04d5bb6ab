"""Nodes, clusters and join tokens over the API."""

import pytest

from tests.support.control_planes import RunningControlPlane

PATH = "/w/finance/api/2.0/nodes"
CLUSTERS = "/w/finance/api/2.0/clusters"


async def names(plane: RunningControlPlane, query: str = "") -> list[str]:
    return [one["node"] for one in (await plane.ok("GET", PATH + query))["nodes"]]


async def test_list_with_filters(plane: RunningControlPlane):
    await plane.node("vm-1", labels={"role": "web", "zone": "a"})
    await plane.node("vm-2", labels={"role": "web", "zone": "b"})
    await plane.node("vm-3", labels={"role": "db"})
    await plane.node("elsewhere", workspace="legal", labels={"role": "web"})
    await plane.ok("POST", CLUSTERS, {"cluster": "blue", "nodes": ["vm-1", "vm-3"]})
    assert await names(plane) == ["vm-1", "vm-2", "vm-3"]
    assert await names(plane, "?label=role=web") == ["vm-1", "vm-2"]
    assert await names(plane, "?label=role=web&label=zone=a") == ["vm-1"]
    assert await names(plane, "?cluster=blue") == ["vm-1", "vm-3"]
    assert await names(plane, "?cluster=blue&label=role=db") == ["vm-3"]
    assert await names(plane, "?state=pending") == ["vm-1", "vm-2", "vm-3"]
    assert await names(plane, "?state=online") == []
    assert await names(plane, "?cluster=green") == []
    assert (await plane.call("GET", f"{PATH}?state=dancing")).status == 400
    assert (await plane.call("GET", f"{PATH}?label=web")).status == 400


async def test_pages_stay_right_while_nodes_come_and_go(plane: RunningControlPlane):
    for number in range(5):
        await plane.node(f"vm-{number}")
    first = await plane.ok("GET", f"{PATH}?page_size=2")
    await plane.ok("DELETE", f"{PATH}/vm-1")
    await plane.node("vm-00")
    second = await plane.ok("GET", f"{PATH}?page_size=9&page_token={first['next_page_token']}")
    assert [one["node"] for one in second["nodes"]] == ["vm-2", "vm-3", "vm-4"]


async def test_get_by_id_or_name_in_its_own_workspace_only(plane: RunningControlPlane):
    node = await plane.node("vm-1")
    await plane.workspace("legal")
    by_name = await plane.ok("GET", f"{PATH}/vm-1")
    assert await plane.ok("GET", f"{PATH}/{node.node_id}") == by_name
    assert await plane.ok("GET", f"/w/{node.workspace_id}/api/2.0/nodes/vm-1") == by_name
    for address in ("vm-1", node.node_id):
        assert (await plane.call("GET", f"/w/legal/api/2.0/nodes/{address}")).status == 404
        assert (await plane.call("DELETE", f"/w/legal/api/2.0/nodes/{address}")).status == 404


async def test_deleting_revokes_and_is_audited(plane: RunningControlPlane):
    node = await plane.node("vm-1")
    before = plane.control_plane.identities.trust.sequence
    await plane.ok("DELETE", f"{PATH}/vm-1")
    assert plane.control_plane.identities.trust.sequence == before + 1
    assert (await plane.call("DELETE", f"{PATH}/vm-1")).status == 404
    [event] = await plane.audit(action="node.delete")
    assert event["details"]["node_id"] == node.node_id
    assert event["actor"].startswith("operator/op-")
    assert event["source_address"] == "127.0.0.1"


async def test_health_before_anything_is_known(plane: RunningControlPlane):
    await plane.node("vm-1")
    found = await plane.ok("GET", f"{PATH}/vm-1/health")
    assert (found["state"], found["state_reason"]) == ("pending", "not seen yet")
    assert await plane.ok("GET", f"{PATH}/vm-1/health/history") == {"history": []}


async def test_clusters(plane: RunningControlPlane):
    for number in (1, 2, 3):
        await plane.node(f"vm-{number}")
    body = {"cluster": "blue", "nodes": ["vm-2", "vm-1"]}
    made = await plane.call("POST", CLUSTERS, body)
    assert (made.status, made.document["nodes"]) == (201, ["vm-1", "vm-2"])
    assert (await plane.call("POST", CLUSTERS, body)).status == 200
    assert (await plane.call("POST", CLUSTERS, body | {"nodes": ["vm-3"]})).status == 409
    changed = await plane.ok("PATCH", f"{CLUSTERS}/blue", {"add": ["vm-3", "vm-1"], "remove": ["vm-2"]})
    assert changed["nodes"] == ["vm-1", "vm-3"]
    assert await plane.ok("GET", f"{CLUSTERS}/{made.document['cluster_id']}") == changed
    assert await plane.ok("GET", CLUSTERS) == {"clusters": [changed]}
    assert (await plane.ok("GET", f"{PATH}/vm-3"))["clusters"] == ["blue"]
    assert (await plane.call("PATCH", f"{CLUSTERS}/blue", {"add": ["vm-9"]})).status == 404
    await plane.ok("DELETE", f"{PATH}/vm-3")
    assert (await plane.ok("GET", f"{CLUSTERS}/blue"))["nodes"] == ["vm-1"]
    await plane.ok("DELETE", f"{CLUSTERS}/blue")
    assert (await plane.call("GET", f"{CLUSTERS}/blue")).status == 404
    assert (await plane.ok("GET", f"{PATH}/vm-1"))["clusters"] == []


async def test_a_cluster_takes_no_node_of_another_workspace(plane: RunningControlPlane):
    await plane.workspace()
    other = await plane.node("vm-1", workspace="legal")
    answer = await plane.call("POST", CLUSTERS, {"cluster": "blue", "nodes": [other.node_id]})
    assert answer.status == 404
    assert (await plane.ok("GET", CLUSTERS)) == {"clusters": []}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"lifetime_seconds": 0},
        {"lifetime_seconds": 90 * 86400 + 1},
        {"lifetime_seconds": 60, "uses": 0},
        {"lifetime_seconds": 60, "uses": 2, "node_name": "vm-1"},
        {"lifetime_seconds": 60, "labels": {"": "x"}},
        {"lifetime_seconds": 60, "labels": {"a b": "x"}},
        {"lifetime_seconds": 60, "labels": {"a": "x" * 256}},
        {"lifetime_seconds": 60, "labels": {"a": "\x00"}},
        {"lifetime_seconds": 60, "labels": {f"l{n}": "x" for n in range(33)}},
        {"lifetime_seconds": 60, "colour": "red"},
    ],
)
async def test_bad_join_tokens(plane: RunningControlPlane, body: dict[str, object]):
    await plane.workspace()
    assert (await plane.call("POST", "/w/finance/api/2.0/join-tokens", body)).status == 400


async def test_a_deleted_join_token_admits_nobody(plane: RunningControlPlane):
    await plane.workspace()
    token = await plane.join_token()
    [shown] = (await plane.ok("GET", "/w/finance/api/2.0/join-tokens"))["join_tokens"]
    await plane.ok("DELETE", f"/w/finance/api/2.0/join-tokens/{shown['join_token_id']}")
    body, _ = await plane.bootstrap_body(token)
    assert (await plane.call("POST", "/api/2.0/bootstrap", body, token=None)).status == 401


async def test_join_tokens_are_seen_and_deleted_in_their_own_workspace_only(plane: RunningControlPlane):
    shown = []
    for workspace in ("finance", "legal"):
        await plane.workspace(workspace)
        await plane.join_token(workspace)
        shown += (await plane.ok("GET", f"/w/{workspace}/api/2.0/join-tokens"))["join_tokens"]
    assert len({token["join_token_id"] for token in shown}) == len(shown) == 2
    foreign = f"/w/finance/api/2.0/join-tokens/{shown[1]['join_token_id']}"
    assert (await plane.call("DELETE", foreign)).status == 404
    assert (await plane.ok("GET", "/w/legal/api/2.0/join-tokens"))["join_tokens"] == shown[1:]
