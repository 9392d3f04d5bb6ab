"""Watches: changes are known at once and without polling, and nothing is lost where they fail."""

import asyncio
import time
from pathlib import Path

import pytest

from control_plane.fleet import command_watches
from control_plane.fleet.command_watches import FREE_ANSWERS, LONGEST_PAUSE_SECONDS, PATIENT_SECONDS, Pace
from tests.support.command_stage import HOST, PATH, Stage, command_stage


async def state_on_record(stage: Stage) -> str:
    """The state as the control plane has it, without asking the node."""
    [found] = (await stage.plane.ok("GET", PATH))["commands"]
    return str(found["state"])


async def until_recorded(stage: Stage, state: str) -> None:
    async with asyncio.timeout(30):
        while await state_on_record(stage) != state:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def watched(stage: Stage) -> None:
    stage.agent.revisions = True
    stage.agent.state = "RUNNING"
    await stage.submit()
    await until_recorded(stage, "RUNNING")
    async with asyncio.timeout(30):
        while not stage.agent.watching:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def ends(stage: Stage) -> None:
    stage.agent.commands[HOST, "c-1"] |= {"state": "SUCCEEDED", "exit_code": 0, "revision": 2}


async def test_an_end_is_known_at_once_and_the_node_is_not_polled(stage: Stage):
    await watched(stage)
    asked = stage.agent.count("GET", "/c-1")
    await asyncio.sleep(1.5)
    assert stage.agent.count("GET", "/c-1") == asked, "polling would have asked several times"
    ends(stage)
    began = time.monotonic()
    await until_recorded(stage, "SUCCEEDED")
    assert time.monotonic() - began < 20.0, "the fallback is asked each thirty seconds"
    assert stage.agent.count("GET", "/c-1") == asked + 1


async def test_a_watch_that_breaks_falls_back_and_is_begun_again(stage: Stage):
    await watched(stage)
    stage.agent.mode[HOST] = "offline"
    for link in stage.relay.links:
        link.abort()
    await until_recorded(stage, "UNKNOWN")
    stage.agent.mode.clear()
    await until_recorded(stage, "RUNNING")
    before = stage.agent.watching
    ends(stage)
    await until_recorded(stage, "SUCCEEDED")
    assert before >= 1


async def test_an_agent_without_revisions_is_polled(stage: Stage):
    stage.agent.state = "RUNNING"
    await stage.submit()
    await until_recorded(stage, "RUNNING")
    stage.agent.commands[HOST, "c-1"] |= {"state": "SUCCEEDED", "exit_code": 0}
    await until_recorded(stage, "SUCCEEDED")
    assert stage.agent.watching == 0


async def test_beyond_the_bound_commands_are_polled(tmp_path: Path):
    async with command_stage(tmp_path, most_watched=0) as stage:
        stage.agent.revisions = True
        stage.agent.state = "RUNNING"
        await stage.submit()
        await until_recorded(stage, "RUNNING")
        ends(stage)
        await until_recorded(stage, "SUCCEEDED")
        assert stage.agent.watching == 0


async def test_an_agent_that_counts_from_the_beginning_again_is_not_asked_in_a_loop(stage: Stage):
    await watched(stage)
    stage.agent.commands[HOST, "c-1"] |= {"revision": 7}
    async with asyncio.timeout(30):
        while stage.agent.watching < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    stage.agent.commands[HOST, "c-1"] |= {"revision": 1}
    await asyncio.sleep(1.0)
    assert stage.agent.watching <= 3
    ends(stage)
    await until_recorded(stage, "SUCCEEDED")


def test_who_always_answers_at_once_is_asked_ever_more_slowly():
    pace = Pace()
    usual = [pace.pause_seconds(0.01) for _ in range(FREE_ANSWERS)]
    assert set(usual) == {command_watches.LEAST_PAUSE_SECONDS}
    slower = [pace.pause_seconds(0.01) for _ in range(20)]
    assert slower == sorted(slower)
    assert slower[-1] == LONGEST_PAUSE_SECONDS
    assert pace.pause_seconds(PATIENT_SECONDS) == command_watches.LEAST_PAUSE_SECONDS


async def test_a_node_that_always_has_news_is_not_asked_in_a_loop(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command_watches, "FREE_ANSWERS", 0)
    stage.agent.restless = True
    await watched(stage)
    await asyncio.sleep(1.5)
    assert stage.agent.watching <= 6
