"""What grows with the history of commands is found by indices: no statement reads a whole table of it."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from control_plane.fleet import submissions
from tests.support.control_planes import RunningControlPlane, running_control_plane

LONG = re.compile(r"SCAN (commands|command_events|kept_outputs|submissions|health_observations|audit_events)\b(.*)")
# The bytes that are kept in all are summed up, which nobody writes meanwhile for.
SUMMED = "sum(kept_outputs.kept_bytes)"
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
        if statement.split(maxsplit=1)[0] in ("SELECT", "UPDATE", "DELETE", "WITH"):
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
        if scans and SUMMED not in statement:
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
