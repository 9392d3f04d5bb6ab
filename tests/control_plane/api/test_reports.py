"""Reports: each counts once, and no flood makes the tables grow without bound."""

from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from control_plane.storage.records.nodes import Node
from control_plane.storage.records.reports import NodeReporter, Reporter, ReportTotal
from control_plane.storage.records.trust import TrustCut
from tests.support.control_planes import RunningControlPlane, running_control_plane, settings_for

PATH = "/api/2.0/reports"


async def totals(plane: RunningControlPlane) -> dict[tuple[str, str], int]:
    async with plane.database.read() as session:
        rows = (await session.scalars(select(ReportTotal))).all()
    return {(row.type, row.outcome): row.total for row in rows}


def report(sequence: int, *items: dict[str, object], reporter: str = "p1", **more: object) -> dict[str, object]:
    return {"reporter": reporter, "sequence": sequence, "items": list(items), "dropped": 0, **more}


async def test_a_report_counts_once(plane: RunningControlPlane):
    relay = await plane.relay()
    item = {"type": "admission", "time": 1, "count": 5, "token_id": "t", "port": 80}
    for sequence in (1, 1, 1, 2, 1):
        await plane.ok("POST", PATH, report(sequence, item), identity=relay.identity)
    assert await totals(plane) == {("admission", ""): 10}


async def test_cuts_and_alarms_are_audited(plane: RunningControlPlane):
    relay = await plane.relay()
    cut = {"type": "cut", "time": 1, "count": 3, "reason": "revoked", "node_id": "nd-x", "cut_in_future": 1}
    alarm = {"type": "clone_alarm", "time": 2, "node_id": "nd-y", "instance": "u"}
    await plane.ok("POST", PATH, report(1, cut, alarm), identity=relay.identity)
    [event] = await plane.audit(action="relay.cut")
    assert (event["details"]["count"], event["details"]["reason"], event["resource"]) == (3, "revoked", "nd-x")
    assert len(await plane.audit(action="relay.clone_alarm")) == 1


async def test_refusals_are_audited_as_counts(plane: RunningControlPlane):
    relay = await plane.relay()
    for sequence in (1, 2):
        items = [{"type": "refusal", "time": 1, "outcome": "bad_token", "count": 500}] * 2
        items.append({"type": "refusal", "time": 1, "outcome": "missing_scope", "count": 1, "token_id": "j-1"})
        await plane.ok("POST", PATH, report(sequence, *items), identity=relay.identity)
    await plane.control_plane.ledger.flush()
    events = await plane.audit(action=f"relay.refusal {relay.relay_id}")
    assert {event["outcome"]: event["details"] for event in events} == {
        "refused: bad_token": {"count": 2000},
        "refused: missing_scope": {"count": 2, "token_ids": ["j-1"]},
    }


async def test_adoption_is_known(plane: RunningControlPlane):
    relay = await plane.relay()
    item = {"type": "trust", "time": 1, "sequence": 7, "cut": 0}
    await plane.ok("POST", PATH, report(1, item), identity=relay.identity)
    [shown] = (await plane.ok("GET", f"{plane.account}/relays"))["relays"]
    assert shown["trust_sequence"] == 7
    assert "last_seen_time" in shown


async def test_a_relay_is_not_believed_about_nodes(plane: RunningControlPlane):
    relay, node = await plane.relay(), await plane.node()
    item = {"type": "trust", "time": 1, "sequence": 7, "node_id": node.node_id}
    await plane.ok("POST", PATH, report(1, item), identity=relay.identity)
    async with plane.database.read() as session:
        found = await session.get(Node, node.node_id)
    assert found is not None
    assert found.trust_sequence is None
    [shown] = (await plane.ok("GET", f"{plane.account}/relays"))["relays"]
    assert "trust_sequence" not in shown, "nor is it the relay's own word"


async def test_tables_are_bounded(plane: RunningControlPlane):
    relay = await plane.relay()
    for sequence in range(80):
        items = [{"type": f"t{n}", "time": 1, "outcome": f"{sequence}-{n}"} for n in range(4)]
        await plane.ok("POST", PATH, report(1, *items, reporter=f"p{sequence}"), identity=relay.identity)
    found = await totals(plane)
    assert len(found) <= 65
    assert sum(found.values()) == 320
    async with plane.database.read() as session:
        assert (await session.scalars(select(func.count()).select_from(Reporter))).one() <= 64


async def test_bad_reports(plane: RunningControlPlane):
    relay = await plane.relay()
    for body in (
        {},
        report(-1),
        report(1, *[{"type": "cut", "time": 1}] * 1001),
        {**report(1), "items": {}},
    ):
        assert (await plane.call("POST", PATH, body, identity=relay.identity)).status == 400


async def test_an_item_that_is_not_understood_counts_as_dropped_and_costs_no_other(plane: RunningControlPlane):
    relay = await plane.relay()
    strange: tuple[Any, ...] = (
        {"type": "cut"},
        {"type": "x" * 65, "time": 1},
        {"type": "cut", "time": 1, "count": "5"},
        "a word",
        None,
    )
    known = {"type": "admission", "time": 1, "count": 5}
    await plane.ok("POST", PATH, report(1, *strange, known, dropped=2), identity=relay.identity)
    assert await totals(plane) == {("admission", ""): 5}
    async with plane.database.read() as session:
        found = await session.get(Reporter, (relay.relay_id, "p1"))
    assert found is not None
    assert found.dropped == 2 + len(strange)


async def test_sums_of_numbers_that_were_made_up_end_where_the_columns_do(plane: RunningControlPlane):
    node, relay = await plane.node(), await plane.relay()
    made_up = {"type": "admission", "time": 1, "count": 2**53}
    for sequence in (1, 2, 3):
        await plane.ok("POST", PATH, report(sequence, *[made_up] * 1000, dropped=2**53), identity=relay.identity)
    assert await totals(plane) == {("admission", ""): 2**62}
    async with plane.database.write() as session:
        session.add(NodeReporter(node_id=node.node_id, reporter="p1", sequence=1, dropped=2**62, time=1))
    await plane.ok("POST", "/api/2.0/nodes/self/reports", report(2, dropped=2**53), identity=node.identity)


async def test_cuts_that_name_nothing_known_are_not_kept(plane: RunningControlPlane):
    relay = await plane.relay()
    await plane.ok("POST", "/api/2.0/revocations", {"kind": "token", "id": "known"})
    for sequence in range(3):
        named = ("known", *(f"made-up-{sequence}-{number}" for number in range(20)))
        causes = ("revocation", "lock", f"cause_{sequence}")
        cuts = [{"cause": cause, "kind": "token", "id": name} for name in named for cause in causes]
        item = {"type": "trust", "time": 1, "sequence": 2, "cuts": cuts}
        await plane.ok("POST", PATH, report(sequence, item), identity=relay.identity)
    async with plane.database.read() as session:
        kept = [(row.cause, row.id) for row in (await session.scalars(select(TrustCut))).all()]
    assert kept == [("revocation", "known")]


async def test_a_relay_fills_no_table_from_which_nothing_is_deleted(tmp_path: Path):
    settings = settings_for(tmp_path, limits={"most_node_records_per_second": 1.0})
    async with running_control_plane(tmp_path, settings=settings) as plane:
        relay = await plane.relay()
        alarms = [{"type": "clone_alarm", "time": 1, "node_id": f"nd-{number}"} for number in range(50)]
        adoptions = [{"type": "trust", "time": 1, "sequence": number} for number in range(50)]
        answers = [
            await plane.call("POST", PATH, report(sequence, *alarms, *adoptions), identity=relay.identity)
            for sequence in range(8)
        ]
        assert [answer.status for answer in answers] == [200] * 6 + [429] * 2
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 100
        assert len(await plane.audit(action="relay.clone_alarm")) == 300
