"""Submissions and rollouts by the SDK: what is asked, how it is watched, and the blocking face."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.fake_control_plane import TOKEN, CannedCommand, FakeControlPlane, error, fake_control_plane
from trunkline.client import sync
from trunkline.client.commands import CommandRequest, Target
from trunkline.client.control_plane import ControlPlane
from trunkline.client.errors import ApiError
from trunkline.client.rollouts import Rollout


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeControlPlane]:
    with fake_control_plane(tmp_path) as running:
        for name in ("vm-1", "vm-2"):
            running.add_node(name, CannedCommand(stdout=b"x"))
        yield running


@pytest.fixture
async def control_plane(fake: FakeControlPlane) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(fake.url, TOKEN, ca_file=fake.ca_file) as made:
        yield made


ROLLOUT = Rollout(canary=1, waves=["10%"], max_concurrent=5)


async def test_a_rollout_is_sent_as_it_is(fake: FakeControlPlane, control_plane: ControlPlane) -> None:
    commands = await control_plane.workspace("main").commands.submit(
        Target(everywhere=True), CommandRequest(["true"], command_id="s-1"), ROLLOUT
    )
    assert {command.submission_id for command in commands} == {"s-1"}
    assert fake.requests[-1][2]["rollout"] == {"canary": 1, "waves": ["10%"], "max_concurrent": 5}


async def test_a_submission_is_watched_to_its_end_through_an_outage(
    fake: FakeControlPlane, control_plane: ControlPlane
) -> None:
    workspace = control_plane.workspace("main")
    commands = await workspace.commands.submit(Target(everywhere=True), CommandRequest(["true"], command_id="s-1"))
    seen = []
    async for standing in workspace.submissions.watch("s-1"):
        seen.append((standing.submission.state, len(standing.commands)))
        if len(seen) == 1:
            fake.failures = [error(503, "TEMPORARILY_UNAVAILABLE", "later", **{"Retry-After": "0"})]
            await asyncio.gather(*(anext(workspace.commands.output(one.command_id, follow=True)) for one in commands))
            for command in fake.commands.values():
                command["state"] = "SUCCEEDED"
    assert (seen[0], seen[-1]) == (("RUNNING", 2), ("SUCCEEDED", 2))
    waits = [path for _, path, _ in fake.requests if "seen=" in path]
    assert waits
    assert "wait_seconds=20" in waits[0]


async def test_what_is_not_there_is_not_waited_for(control_plane: ControlPlane) -> None:
    with pytest.raises(ApiError):
        await anext(control_plane.workspace("main").submissions.watch("nothing"))


def test_the_blocking_face_gives_plain_records(fake: FakeControlPlane) -> None:
    with sync.connect(fake.url, TOKEN, ca_file=fake.ca_file) as control_plane:
        workspace = control_plane.workspace("main")
        workspace.commands.submit(Target(everywhere=True), CommandRequest(["true"], command_id="s-1"))
        submission = workspace.submissions.cancel("s-1")
        [standing] = list(workspace.submissions.watch("s-1"))
    assert type(submission).__name__ == "Submission"
    assert standing.submission.ended
    assert [command.node for command in standing.commands] == ["vm-1", "vm-2"]
