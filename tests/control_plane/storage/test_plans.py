"""What grows with the history of commands, and with the fleet, costs no more than what is asked for.

No statement reads a whole table of the history, and what concerns every node is read and written of hundreds at once.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, update

from control_plane.fleet import submissions
from control_plane.fleet.health_check import Check
from control_plane.fleet.health_record import Finding, HealthRecord
from control_plane.fleet.health_states import CheckResult, NodeState
from control_plane.secrets.behind import nodes_behind
from control_plane.signing.phases import SignerKind
from control_plane.storage.records.nodes import Node
from control_plane.storage.submissions import SubmissionKey, let_go
from tests.support.control_planes import RunningControlPlane, running_control_plane

LONG = re.compile(r"SCAN (commands|command_events|kept_outputs|submissions|health_observations|audit_events)\b(.*)")
PATH = "/w/finance/api/2.0"


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[RunningControlPlane]:
    async with running_control_plane(tmp_path) as plane:
        await plane.node("vm-1")
        for number in range(3):
            body = {"command_id": f"c-{number}", "target": {"node": "vm-1"}, "argv": ["true"]}
            await plane.ok("POST", f"{PATH}/commands", body)
        yield plane


@asynccontextmanager
async def statements(plane: RunningControlPlane) -> AsyncIterator[list[tuple[str, Any]]]:
    """Gather what is sent to the database inside the block."""
    gathered: list[tuple[str, Any]] = []

    def gather(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.split(maxsplit=1)[0] in ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"):
            gathered.append((statement, parameters))

    database = plane.database
    engines = {database._reader.kw["bind"].sync_engine, database._writer.kw["bind"].sync_engine}
    for engine in engines:
        event.listen(engine, "before_cursor_execute", gather)
    try:
        yield gathered
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", gather)


async def plan(plane: RunningControlPlane, statement: str, parameters: Any) -> list[str]:
    """Return how SQLite would find what the statement asks for: https://sqlite.org/eqp.html."""
    async with plane.database.engine.connect() as connection:
        rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return [str(row.detail) for row in rows]


async def whole_tables(plane: RunningControlPlane, gathered: list[tuple[str, Any]]) -> list[str]:
    found = []
    for statement, parameters in gathered:
        scans = [step for step in await plan(plane, statement, parameters) if LONG.match(step)]
        if scans:
            found.append(f"{scans}: {statement}")
    return found


async def test_housekeeping_reads_no_whole_table(plane: RunningControlPlane):
    async with statements(plane) as gathered:
        await plane.control_plane.housekeeping.clean()
    assert await whole_tables(plane, gathered) == []


@pytest.mark.parametrize(
    "path",
    [
        "commands",
        "commands?state=RUNNING",
        "commands?state=LOST",
        "commands?node=vm-1",
        "commands/c-1",
        "commands/c-1/events",
        "submissions",
        "submissions/c-1",
        "submissions/c-1/commands",
    ],
)
async def test_lists_read_no_whole_table(plane: RunningControlPlane, path: str):
    async with statements(plane) as gathered:
        await plane.ok("GET", f"{PATH}/{path}")
    assert await whole_tables(plane, gathered) == []
    assert path == "submissions/c-1/commands" or not await sorted_by_hand(plane, gathered)


async def sorted_by_hand(plane: RunningControlPlane, gathered: list[tuple[str, Any]]) -> list[str]:
    """Which statements that read a page put all that matches in order first."""
    return [
        statement
        for statement, parameters in gathered
        if "LIMIT" in statement and any("TEMP B-TREE" in step for step in await plan(plane, statement, parameters))
    ]


@pytest.mark.parametrize("what", ["commands", "submissions"])
async def test_a_later_page_begins_where_the_one_before_ended(plane: RunningControlPlane, what: str):
    page = await plane.ok("GET", f"{PATH}/{what}?page_size=1")
    async with statements(plane) as gathered:
        await plane.ok("GET", f"{PATH}/{what}?page_size=1&page_token={page['next_page_token']}")
    [(statement, parameters)] = [(one, two) for one, two in gathered if "LIMIT" in one and f"FROM {what}" in one]
    first, *_ = await plan(plane, statement, parameters)
    assert "(workspace_id=? AND (" in first


@pytest.mark.parametrize("wanted", ["actor=operator", "action=node.renew", "workspace_id=ws-1"])
async def test_what_one_did_is_found_among_all_events_by_an_index(plane: RunningControlPlane, wanted: str):
    async with statements(plane) as gathered:
        await plane.ok("GET", f"{plane.account}/audit-events?{wanted}&page_size=10")
    [(statement, parameters)] = [(one, two) for one, two in gathered if "FROM audit_events" in one]
    [step] = await plan(plane, statement, parameters)
    assert f"({wanted.partition('=')[0]}=?" in step


async def test_what_is_open_is_counted_among_what_is_open(plane: RunningControlPlane):
    async with statements(plane) as gathered:
        await plane.ok("POST", f"{PATH}/commands", {"target": {"node": "vm-1"}, "argv": ["true"]})
    counts = [(one, two) for one, two in gathered if "count(*)" in one and "commands.final" in one]
    assert counts
    for statement, parameters in counts:
        [step] = await plan(plane, statement, parameters)
        assert "(final=?" in step


async def test_many_nodes_are_submitted_to_in_portions(plane: RunningControlPlane, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(submissions, "NODES_AT_ONCE", 2)
    monkeypatch.setattr(submissions, "COMMANDS_AT_ONCE", 2)
    names = ["vm-1", *(f"vm-{number}" for number in range(2, 6))]
    for name in names[1:]:
        await plane.node(name)
    async with statements(plane) as gathered:
        body = {"command_id": "all", "target": {"all": True}, "argv": ["true"]}
        answer = await plane.ok("POST", f"{PATH}/commands", body)
    assert [command["node"] for command in answer["commands"]] == names
    assert all("nodes.health," not in statement for statement, _ in gathered)
    events = await plane.ok("GET", f"{PATH}/commands/{answer['commands'][4]['command_id']}/events")
    assert [event["event"] for event in events["events"]] == ["recorded"]


async def test_the_sizes_of_kept_outputs_are_summed_up_by_an_index(plane: RunningControlPlane):
    async with statements(plane) as gathered:
        await plane.control_plane.housekeeping.clean()
    [(statement, parameters)] = [(one, two) for one, two in gathered if "sum(kept_outputs.kept_bytes)" in one]
    [step] = await plan(plane, statement, parameters)
    assert "COVERING INDEX ix_kept_outputs_state_keep_time_kept_bytes (state=?" in step


async def test_what_nodes_said_of_their_health_is_not_read_where_only_their_trust_is_asked_for(
    plane: RunningControlPlane,
):
    await plane.ok("POST", "/api/2.0/revocations", {"kind": "token", "id": "tk-1"})
    async with plane.database.write() as session:
        await session.execute(update(Node).values(state="online", health={"filling": "x" * 1000}))
    async with statements(plane) as gathered:
        for kind in SignerKind:
            [progress] = await plane.control_plane.rotations.progress(kind)
            assert [one.number for one in progress.standings if one.kind == "node"] == [1]
        revocation = await plane.ok("GET", "/api/2.0/revocations/token/tk-1")
    assert revocation["adoption"]["waiting_nodes"][0]["node"] == "vm-1"
    assert revocation["adoption"]["waiting_node_count"] == 1
    assert [statement for statement, _ in gathered if "nodes.health" in statement] == []


async def test_a_look_for_nodes_reads_their_ids_from_an_index_as_one_row(plane: RunningControlPlane):
    record = HealthRecord(database=plane.database, clock=plane.foundation.clock, history_interval_seconds=60.0)
    async with statements(plane) as gathered:
        await record.changes(())
    [(statement, parameters)] = [(one, two) for one, two in gathered if "FROM nodes" in one]
    [step] = await plan(plane, statement, parameters)
    assert "COVERING INDEX" in step
    assert "group_concat(nodes.node_id" in statement


async def test_what_machines_hold_is_read_once_for_all_rotations(plane: RunningControlPlane):
    await plane.node("vm-2")
    async with statements(plane) as gathered:
        listed = await plane.ok("GET", f"{plane.account}/rotations")
    assert [(rotation["kind"], rotation["live"]) for rotation in listed["rotations"]] == [("ca", 3), ("signing-key", 3)]
    assert (
        len([statement for statement, _ in gathered if "trust_reports" in statement and "FROM nodes" in statement]) == 1
    )


async def test_what_was_found_of_many_nodes_is_written_by_as_few_statements_as_of_one(plane: RunningControlPlane):
    ids = [(await plane.node(f"vm-{number}")).node_id for number in range(2, 6)]
    clock = plane.foundation.clock
    record = HealthRecord(database=plane.database, clock=clock, history_interval_seconds=0.0)

    async def written(some: list[str], sequence: int) -> int:
        for node_id in some:
            check = Check(CheckResult.OK, None, {"trust_sequence": sequence, "certificate_root": "r"}, 0.1, "rl-1")
            record.note(node_id, Finding(NodeState.ONLINE, check, changed=False))
        async with statements(plane) as gathered:
            await record.flush()
        return len(gathered)

    assert await written(ids[:1], 1) == await written(ids[1:], 1)
    assert await written(ids[:1], 2) == await written(ids[1:], 2)
    for number in range(2, 6):
        node = await plane.ok("GET", f"{PATH}/nodes/vm-{number}/health")
        assert (node["state"], node["trust_sequence"], node["certificate_root"]) == ("online", 2, "r")
    [progress] = await plane.control_plane.rotations.progress(SignerKind.CA)
    held = {(one.trust_sequence, one.root): one.number for one in progress.standings if one.kind == "node"}
    assert held == {(0, None): 1, (2, "r"): 4}


async def test_who_is_behind_with_secrets_is_found_of_many_workspaces_as_of_one(plane: RunningControlPlane):
    async def granted(workspace: str) -> None:
        secrets = f"/w/{workspace}/api/2.0/secrets"
        await plane.ok("POST", f"{secrets}/scopes/create", {"scope": "app"})
        await plane.ok("POST", f"{secrets}/put", {"scope": "app", "key": "k", "string_value": "v"})
        await plane.ok("POST", f"{secrets}/grants/put", {"scope": "app", "target": {"node": "vm-1"}})

    async def asked() -> int:
        async with statements(plane) as gathered, plane.database.read() as session:
            await nodes_behind(session)
        return len(gathered)

    await granted("finance")
    of_one = await asked()
    for number in range(3):
        await plane.node("vm-1", f"team-{number}")
        await granted(f"team-{number}")
    assert await asked() == of_one
    async with plane.database.read() as session:
        assert len(await nodes_behind(session)) == 4


async def test_a_submissions_commands_are_not_looked_for_among_all_of_the_workspace(plane: RunningControlPlane):
    body = {"command_id": "some", "target": {"all": True}, "argv": ["true"], "rollout": {"max_concurrent": 1}}
    workspace = (await plane.workspace())["workspace_id"]
    async with statements(plane) as gathered:
        first = await plane.ok("POST", f"{PATH}/commands", body)
        assert await plane.ok("POST", f"{PATH}/commands", body) == first
        async with plane.database.write() as session:
            key = SubmissionKey(workspace, "some")
            assert len(await let_go(session, key, wave=0, number=1, deliver_before_ms=1)) == 1
    of_commands = [(one, two) for one, two in gathered if "FROM commands" in one and "submission_id = ?" in one]
    assert len(of_commands) >= 2
    for statement, parameters in of_commands:
        first_step, *_ = await plan(plane, statement, parameters)
        assert "(submission_id=? AND workspace_id=?" in first_step, statement
