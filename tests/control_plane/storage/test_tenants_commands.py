"""Of two workspaces, what is asked of the one is of it, and changes nothing else: commands and what is kept of them.

Each test looks at one workspace, or at one thing in it; the other, and the thing's neighbours, are there to be missed.
"""

from collections.abc import Iterable

import pytest
from sqlalchemy import inspect, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage import command_events, commands, forgetting, health, kept_outputs, submissions
from control_plane.storage.commands import CommandFilter, CommandKey
from control_plane.storage.records.commands import Command, Submission
from control_plane.storage.submissions import SubmissionKey
from tests.support.tenants import (
    NAMES,
    NOW_MS,
    WORKSPACES,
    A,
    B,
    Rows,
    everything,
    gone,
    kept_output,
    made_id,
    names,
    rows,
)


async def test_commands(tenants: AsyncSession) -> None:
    of_two = [f"two.{name}" for name in NAMES]
    found = await commands.of_submission(tenants, A, "two")
    assert names(found, "command_id") == of_two
    found = [*found, *await commands.of_submission(tenants, B, "two")]
    of_each = await commands.submissions_of(tenants, found)
    assert {key: (one.workspace_id, one.submission_id) for key, one in of_each.items()} == {
        (of, "two"): (of, "two") for of in (A, B)
    }
    assert await commands.count_open(tenants) == 12
    assert await commands.count_open(tenants, A) == 6
    still_open = {(CommandKey(*key), made_id("nd", of, key[1].split(".")[1])) for of, key in _open_keys()}
    assert set(await commands.open_keys(tenants)) == still_open
    open_of_two = await commands.open_of_node(tenants, made_id("nd", "a", "two"))
    assert sorted(names(open_of_two, "command_id")) == ["one.two", "three.two", "two.two"]
    assert not await commands.open_of_node(tenants, made_id("nd", "a", "one"))
    tenants.add(_only_in_the_other(found[0]))
    await tenants.flush()
    assert not await commands.taken_ids(tenants, A, ["only-b"])
    assert await commands.taken_ids(tenants, A, ["only-b", "two.one"])


def _open_keys() -> Iterable[tuple[str, tuple[str, str]]]:
    for of, workspace_id in zip(WORKSPACES, (A, B), strict=True):
        for name in NAMES:
            for node in NAMES[1:]:
                yield of, (workspace_id, f"{name}.{node}")


def _only_in_the_other(command: Command) -> Command:
    values = {column.key: getattr(command, column.key) for column in inspect(Command).columns}
    return Command(**values | {"workspace_id": B, "command_id": "only-b"})


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (CommandFilter(), [f"{name}.{node}" for name in reversed(NAMES) for node in reversed(NAMES)]),
        (CommandFilter(node="one"), ["two.one", "three.one", "one.one"]),
        (CommandFilter(node=made_id("nd", "a", "one")), ["two.one", "three.one", "one.one"]),
        (CommandFilter(node=made_id("nd", "b", "one")), []),
        (CommandFilter(node="two", state="QUEUED"), ["two.two", "three.two", "one.two"]),
        (CommandFilter(node="two", state="SUCCEEDED"), []),
    ],
)
async def test_commands_that_are_looked_for(tenants: AsyncSession, wanted: CommandFilter, found: list[str]) -> None:
    for start in range(len(found) + 1):
        after = (NAMES.index(found[start - 1].split(".")[0]), found[start - 1]) if start else None
        page = await commands.list_page(tenants, A, wanted, after=after, most=2)
        assert names(page, "command_id") == found[start : start + 2]


async def test_an_attempt_is_doubted_only_of_what_is_on_its_way(tenants: AsyncSession) -> None:
    let_go = CommandKey(A, "two.two")
    command = await commands.find(tenants, let_go)
    known = await commands.find(tenants, CommandKey(A, "two.three"))
    assert command is not None
    assert known is not None
    command.held = known.held = False
    known.maybe_delivered_until = 5
    await tenants.flush()
    await commands.doubt_attempts(tenants, 7)
    assert await rows(tenants, Command, maybe_delivered_until=7) == {(A, "two.two")}
    assert await rows(tenants, Command, maybe_delivered_until=5) == {(A, "two.three")}


async def test_what_nodes_are_sent_is_forgotten_of_one_submission_once_all_have_it(tenants: AsyncSession) -> None:
    waiting = await commands.of_submission(tenants, A, "two")
    await commands.forget_spec(tenants, waiting[0])
    assert await _with_spec(tenants) == {(of, name) for of in (A, B) for name in NAMES}
    waiting[1].delivered = waiting[2].final = True
    await tenants.flush()
    await commands.forget_spec(tenants, waiting[0])
    assert await _with_spec(tenants) == {(of, name) for of in (A, B) for name in NAMES} - {(A, "two")}


async def _with_spec(tenants: AsyncSession) -> Rows:
    found = (await tenants.execute(select(Submission.workspace_id, Submission.submission_id, Submission.spec))).all()
    return {(workspace_id, submission_id) for workspace_id, submission_id, spec in found if spec is not None}


async def test_submissions(tenants: AsyncSession) -> None:
    key = SubmissionKey(A, "two")
    assert names(await submissions.list_page(tenants, A, after=None, most=9), "submission_id") == [
        "two",
        "three",
        "one",
    ]
    assert names(await submissions.list_page(tenants, A, after=(2, "two"), most=1), "submission_id") == ["three"]
    assert set(await submissions.open_rollouts(tenants)) == {SubmissionKey(A, "one"), SubmissionKey(B, "one")}
    counts = await submissions.count_commands(tenants, key, overdue_before_ms=0, silent_before_ms=0)
    assert {(count.state, count.number) for count in counts} == {("SUCCEEDED", 1), ("QUEUED", 2)}
    assert await submissions.state_counts(tenants, [key]) == {key: {1: {"SUCCEEDED": 1, "QUEUED": 2}}}
    page = await submissions.command_page(tenants, key, after=(1, "one", "two.one"), most=9)
    assert names(page, "command_id") == ["two.three", "two.two"]
    assert names(await submissions.command_page(tenants, key, after=None, most=1), "command_id") == ["two.one"]


async def test_a_rollout_lets_go_of_its_own_wave_and_of_nothing_that_was_cancelled(tenants: AsyncSession) -> None:
    key = SubmissionKey(A, "two")
    assert not await submissions.let_go(tenants, key, 2, 9, deliver_before_ms=NOW_MS)
    released = await submissions.let_go(tenants, key, 1, 1, deliver_before_ms=NOW_MS)
    assert names(released, "command_id") == ["two.three"]
    kept_back = await commands.find(tenants, CommandKey(A, "two.two"))
    assert kept_back is not None
    for column in ("cancel_requested", "final"):
        setattr(kept_back, column, True)
        await tenants.flush()
        assert not await submissions.let_go(tenants, key, 1, 9, deliver_before_ms=NOW_MS)
        setattr(kept_back, column, False)
    assert await rows(tenants, Command, held=False, final=False) == {(A, "two.three")}


async def test_a_rollout_stops_what_is_its_own(tenants: AsyncSession) -> None:
    key = SubmissionKey(A, "two")
    stopped = await submissions.to_stop(tenants, key, unsent_only=False)
    assert sorted(names(stopped, "command_id")) == ["two.three", "two.two"]
    stopped[0].delivered = True
    await tenants.flush()
    assert await submissions.to_stop(tenants, key, unsent_only=True) == [stopped[1]]
    stopped[1].maybe_delivered_until = 1
    await tenants.flush()
    assert not await submissions.to_stop(tenants, key, unsent_only=True)


async def test_what_is_kept_of_commands(tenants: AsyncSession) -> None:
    tenants.add(kept_output(B, "two.two", made_id("nd", "b", "two"), 9))
    wanted = kept_output(A, "two.three", made_id("nd", "a", "three"), 0)
    wanted.state = kept_outputs.WANTED
    tenants.add(wanted)
    await tenants.flush()
    among = ["two.one", "two.two", "two.three", "one.one"]
    assert await kept_outputs.kept_among(tenants, A, among) == {"two.one", "one.one"}
    assert await kept_outputs.total_bytes(tenants) == 700
    [event] = await command_events.list_after(tenants, CommandKey(A, "two.one"), after=0, most=9)
    assert (event.workspace_id, event.command_id) == (A, "two.one")
    assert not await command_events.list_after(tenants, CommandKey(A, "two.one"), after=event.event_id, most=9)
    [observation] = await health.list_page(tenants, made_id("nd", "a", "two"), before=None, most=9)
    assert observation.node_id == made_id("nd", "a", "two")
    assert not await health.list_page(tenants, observation.node_id, before=observation.observation_id, most=9)


async def test_the_oldest_outputs_are_let_go_of_and_no_others(tenants: AsyncSession) -> None:
    wanted = await commands.find(tenants, CommandKey(A, "two.two"))
    assert wanted is not None
    kept_outputs.want(tenants, wanted, NOW_MS)
    before = await everything(tenants)
    removed = await kept_outputs.remove_old(tenants, before_ms=1, excess_bytes=0)
    assert set(removed.outputs) == {CommandKey(A, "one.one"), CommandKey(B, "one.one")}
    assert await gone(tenants, before) == {"kept_outputs": {(A, "one.one"), (B, "one.one")}}
    assert await kept_outputs.wanted(tenants) == [(CommandKey(A, "two.two"), made_id("nd", "a", "two"))]
    assert await kept_outputs.total_bytes(tenants) == 400


async def test_old_commands_are_forgotten_with_what_is_theirs(tenants: AsyncSession) -> None:
    [lone] = [command for command in await commands.of_submission(tenants, A, "one") if command.final]
    for command in await commands.of_submission(tenants, A, "one"):
        if command is not lone:
            await tenants.delete(command)
    lone.end_time = -1
    [another] = [command for command in await commands.of_submission(tenants, A, "three") if command.final]
    another.submit_time, another.end_time = -2, -1
    for command in await commands.of_submission(tenants, B, "one"):  # a submission that is being written, say
        await tenants.delete(command)
    for command_id in ("two.one", "two.two"):  # the one has ended since, the other has not ended
        younger = await commands.find(tenants, CommandKey(A, command_id))
        assert younger is not None
        younger.submit_time = -2
    await tenants.flush()
    before = await everything(tenants)
    forgotten = await forgetting.forget_old(tenants, before_ms=0, now_ms=NOW_MS)
    assert list(forgotten.outputs) == [CommandKey(A, "three.one")]  # the other was submitted later than that
    lone.submit_time = -2
    await tenants.flush()
    forgotten = await forgetting.forget_old(tenants, before_ms=0, now_ms=NOW_MS)
    assert list(forgotten.outputs) == [CommandKey(A, "one.one")]
    left = await gone(tenants, before)
    assert len(left.pop("command_events")) == 2
    assert left == {
        "commands": {(A, "one.one"), (A, "three.one")},
        "kept_outputs": {(A, "one.one"), (A, "three.one")},
        "submissions": {(A, "one")},
    }


async def test_what_a_workspace_has_left_is_forgotten_and_nobody_elses(tenants: AsyncSession) -> None:
    before = await everything(tenants)
    left_by = made_id("ws", "gone")
    for name in ("one", "two"):
        command_events.append(tenants, CommandKey(left_by, name), 1, "recorded", {})
        tenants.add(kept_output(left_by, name, made_id("nd", "gone"), 1))
    await tenants.flush()
    forgotten = await forgetting.forget_leavings(tenants)
    assert set(forgotten.outputs) == {CommandKey(left_by, name) for name in ("one", "two")}
    assert forgotten.more
    assert not (await forgetting.forget_leavings(tenants)).more
    assert await everything(tenants) == before
