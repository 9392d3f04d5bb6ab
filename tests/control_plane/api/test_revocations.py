"""Adoption: what relays and nodes report of a revocation or lock is what the API says of it."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import func, select, text, update
from structlog.testing import capture_logs

from control_plane.identity.trust_publisher import RECORDED
from control_plane.storage.records.nodes import Node
from control_plane.storage.records.trust import TrustCut
from tests.support.control_planes import EnrolledNode, EnrolledRelay, RunningControlPlane

TOKEN = {"kind": "token", "id": "jti-1"}
BY_ID = "/api/2.0/revocations/token/jti-1"


def adopted(sequence: int, *cuts: dict[str, Any], number: int = 1) -> dict[str, Any]:
    item = {"type": "trust", "time": 1, "sequence": sequence, "cut": 1, "cut_milliseconds": 3, "cuts": list(cuts)}
    return {"reporter": "p1", "sequence": number, "items": [item], "dropped": 0}


def cut(**counts: Any) -> dict[str, Any]:
    return {"cause": "revocation", **TOKEN, **counts}


async def report(plane: RunningControlPlane, by: EnrolledRelay | EnrolledNode, body: dict[str, Any]) -> None:
    path = "/api/2.0/reports" if isinstance(by, EnrolledRelay) else "/api/2.0/nodes/self/reports"
    await plane.ok("POST", path, body, identity=by.identity)


async def online(plane: RunningControlPlane, *nodes: EnrolledNode) -> None:
    """What a health check would find."""
    async with plane.database.write() as session:
        named = [node.node_id for node in nodes]
        await session.execute(update(Node).where(Node.node_id.in_(named)).values(state="online"))


async def test_adoption_names_who_took_it_and_who_is_waited_for(plane: RunningControlPlane):
    first, second = await plane.relay("relay-1"), await plane.relay("relay-2")
    node, away = await plane.node("vm-1"), await plane.node("vm-2")
    await online(plane, node)
    sequence = (await plane.ok("POST", "/api/2.0/revocations", TOKEN))["sequence"]
    waiting = (await plane.ok("GET", BY_ID))["adoption"]
    assert waiting["complete"] is False
    assert sorted(relay["name"] for relay in waiting["waiting_relays"]) == ["relay-1", "relay-2"]
    # A node that is not online is not waited for.
    assert waiting["waiting_nodes"] == [{"node_id": node.node_id, "node": "vm-1"}]
    await report(plane, first, adopted(sequence, cut(links=1, streams=2, exchanges=3)))
    await report(plane, node, adopted(sequence, cut(streams=2)))
    await report(plane, away, adopted(sequence - 1))
    partly = (await plane.ok("GET", BY_ID))["adoption"]
    [relay] = partly["relays"]
    assert relay.pop("time") > 0
    assert relay.pop("after_milliseconds") >= 0
    assert relay == {
        "relay_id": first.relay_id, "name": "relay-1", "sequence": sequence, "cut_milliseconds": 3,
        "links": 1, "streams": 2, "exchanges": 3,
    }  # fmt: skip
    [cutter] = partly["nodes"]
    assert (cutter["node"], cutter["streams"], cutter["exchanges"]) == ("vm-1", 2, 0)
    assert [one["name"] for one in partly["waiting_relays"]] == ["relay-2"]
    assert partly["waiting_relays"][0]["following"] is False
    # A later document has all that an earlier one had.
    await report(plane, second, adopted(sequence + 5))
    assert (await plane.ok("GET", BY_ID))["adoption"]["complete"] is True


async def test_a_relay_that_follows_is_told_from_one_that_does_not(plane: RunningControlPlane):
    relay = await plane.relay()
    await plane.ok("POST", "/api/2.0/revocations", TOKEN)
    response = await plane.session(relay.identity).get(plane.url + "/api/2.0/trust-document/events")
    [waiting] = (await plane.ok("GET", BY_ID))["adoption"]["waiting_relays"]
    assert waiting["following"] is True
    response.close()


@pytest.mark.parametrize("kind", ["node", "workspace"])
async def test_a_node_that_is_revoked_is_not_waited_for(plane: RunningControlPlane, kind: str):
    node, other = await plane.node("vm-1"), await plane.node("vm-1", workspace="legal")
    await online(plane, node, other)
    name = node.node_id if kind == "node" else node.workspace_id
    await plane.ok("POST", "/api/2.0/revocations", {"kind": kind, "id": name})
    adoption = (await plane.ok("GET", f"/api/2.0/revocations/{kind}/{name}"))["adoption"]
    assert [one["node_id"] for one in adoption["waiting_nodes"]] == [other.node_id]


async def test_a_locked_node_is_waited_for_and_its_lock_counts_apart(plane: RunningControlPlane):
    node, relay = await plane.node("vm-1"), await plane.relay()
    await online(plane, node)
    target = {"kind": "node", "id": node.node_id}
    lock = await plane.ok("POST", "/api/2.0/locks", {**target, "lifetime_seconds": 60, "reason": "odd"})
    path = f"/api/2.0/locks/{lock['lock_id']}"
    assert len((await plane.ok("GET", path))["adoption"]["waiting_nodes"]) == 1
    said = [{"cause": "lock", **target, "exchanges": 4}]
    await report(plane, node, adopted(lock["sequence"], *said))
    await report(plane, relay, adopted(lock["sequence"], *said, {"cause": "revocation", **target, "links": 9}))
    adoption = (await plane.ok("GET", path))["adoption"]
    assert adoption["complete"] is True
    assert [(one["links"], one["exchanges"]) for one in adoption["relays"]] == [(0, 4)]
    assert [one["exchanges"] for one in adoption["nodes"]] == [4]


async def test_what_was_never_revoked_is_not_there(plane: RunningControlPlane):
    assert (await plane.call("GET", BY_ID)).status == 404
    assert (await plane.call("GET", "/api/2.0/revocations/relay/x")).status == 404
    assert (await plane.call("GET", "/api/2.0/locks/lk-" + "a" * 20)).status == 404


async def test_cuts_of_nodes_are_audited_and_a_node_that_lies_adds_little(plane: RunningControlPlane):
    node = await plane.node("vm-1")
    sequence = (await plane.ok("POST", "/api/2.0/revocations", TOKEN))["sequence"]
    invented = [cut(id=f"made-up-{number}", streams=1) for number in range(50)]
    for number in range(1, 6):
        body = adopted(sequence + number, cut(streams=1), *invented, number=number)
        await report(plane, node, body)
        await report(plane, node, body)
    [event] = await plane.audit(action="node.cut")
    assert (event["resource"], event["workspace_id"]) == (node.node_id, node.workspace_id)
    assert event["details"]["id"] == "jti-1"
    async with plane.database.read() as session:
        assert (await session.scalars(select(func.count()).select_from(TrustCut))).one() == 1
    [cutter] = (await plane.ok("GET", BY_ID))["adoption"]["nodes"]
    assert cutter["streams"] == 5


async def test_refusals_of_nodes_are_audited_as_counts(plane: RunningControlPlane):
    node = await plane.node("vm-1")
    items = [{"type": "refusal", "time": 1, "outcome": "locked", "count": 700}]
    body = {"reporter": "p1", "sequence": 1, "items": items, "dropped": 3}
    await report(plane, node, body)
    await report(plane, node, body)
    [event] = await plane.audit(action=f"node.refusal {node.workspace_id}")
    assert (event["outcome"], event["details"]["count"]) == ("refused: locked", 700)
    dropped = "trunkline_control_plane_report_items_dropped_total"
    assert plane.foundation.registry.get_sample_value(dropped) == 3.0


async def test_commands_that_nodes_refused_are_audited_by_rule_with_the_bodies_hashes(plane: RunningControlPlane):
    node = await plane.node("vm-1")
    rule = {"type": "command_refusal", "time": 1, "outcome": "commands.named.*.parameters", "count": 7}
    lie = {"type": "command_refusal", "time": 1, "outcome": "<b>x</b>", "count": 2}
    items = [rule | {"body_sha256": ["a" * 64, "b" * 64]}, lie]
    await report(plane, node, {"reporter": "p1", "sequence": 1, "items": items})
    events = await plane.audit(action=f"node.command_refused {node.workspace_id}")
    found = {event["outcome"]: event["details"] for event in events}
    assert found["refused: commands.named.*.parameters"] == {"count": 7, "body_sha256": ["a" * 64, "b" * 64]}
    assert found["refused: other"]["count"] == 2


async def test_more_relays_and_nodes_than_rows_share_one(plane: RunningControlPlane, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("control_plane.storage.adoptions.MOST_CUTS_A_CAUSE", 1)
    sequence = (await plane.ok("POST", "/api/2.0/revocations", TOKEN))["sequence"]
    for name in ("vm-1", "vm-2", "vm-3"):
        await report(plane, await plane.node(name), adopted(sequence, cut(streams=2)))
    nodes = (await plane.ok("GET", BY_ID))["adoption"]["nodes"]
    assert sorted((one["node"], one["streams"]) for one in nodes) == [("others", 4), ("vm-1", 2)]


async def test_revocations_are_bounded_so_that_a_document_can_always_be_signed(
    plane: RunningControlPlane, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("control_plane.storage.revocations.MOST_REVOCATIONS", 1)
    await plane.ok("POST", "/api/2.0/revocations", TOKEN)
    answer = await plane.call("POST", "/api/2.0/revocations", {"kind": "token", "id": "jti-2"})
    assert (answer.status, answer.error_code) == (400, "RESOURCE_LIMIT_EXCEEDED")
    await plane.ok("POST", "/api/2.0/revocations", TOKEN)


async def test_many_at_once_are_each_in_the_document(plane: RunningControlPlane):
    bodies = [{"kind": "token", "id": f"jti-{number}"} for number in range(20)]
    answers = await asyncio.gather(*(plane.ok("POST", "/api/2.0/revocations", body) for body in bodies))
    assert len({answer["sequence"] for answer in answers}) == 20
    assert plane.control_plane.identities.trust.sequence >= max(answer["sequence"] for answer in answers)


async def test_a_disk_that_fills_up_before_a_revocation_is_published_does_not_undo_it(plane: RunningControlPlane):
    async with plane.database.engine.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE filling (content BLOB)")
        await connection.exec_driver_sql(
            "CREATE TRIGGER fill AFTER INSERT ON trust_publications BEGIN"
            " INSERT INTO filling VALUES (zeroblob(4000000)); END"
        )
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
        await connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 100}")
    before = plane.control_plane.identities.trust.sequence
    answer = await plane.call("POST", "/api/2.0/revocations", TOKEN)
    assert (answer.status, answer.error_code) == (507, "INSUFFICIENT_STORAGE")
    assert answer.document["message"].startswith(RECORDED)
    recorded = await plane.ok("GET", BY_ID)
    assert recorded["sequence"] > before
    assert plane.control_plane.identities.trust.sequence == before
    async with plane.database.engine.begin() as connection:
        await connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    await plane.control_plane.housekeeping.clean()
    assert plane.control_plane.identities.trust.sequence == recorded["sequence"]


async def test_without_its_table_the_answer_is_that_the_database_is_lost_and_no_fault_is_logged(
    plane: RunningControlPlane,
):
    async with plane.database.write() as session:
        await session.execute(text("DROP TABLE revocations"))
    with capture_logs() as lines:
        answer = await plane.call("GET", "/api/2.0/revocations")
    assert (answer.status, answer.error_code) == (503, "TEMPORARILY_UNAVAILABLE")
    assert "has lost its tables" in answer.document["message"]
    assert [line for line in lines if line["log_level"] == "error"] == []
