"""A relay that keeps trust documents back: the control plane names them to the node directly, which fetches them."""

import asyncio
import random
from collections.abc import Callable
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from node_agent.identity.control_plane import ControlPlane
from node_agent.identity.trust_in_force import TrustInForce
from node_agent.identity.trust_watch import (
    LONGEST_GRACE_SECONDS,
    LONGEST_SILENCE_SECONDS,
    STEP_SECONDS,
    TrustWatch,
)
from node_agent.metrics import AgentMetrics
from tests.support.loop_clock import LoopClock
from trunkline.client.control_plane_answers import ControlPlaneUnreachable

VIRTUAL_TIME = True
RELAY = "https://relay.example:443"
FAR = LONGEST_SILENCE_SECONDS + LONGEST_GRACE_SECONDS + 1


class NamingControlPlane:
    """Answers with its document, unless that is held, and states its number each time, as the real client hears it."""

    def __init__(self, kit) -> None:
        self.kit = kit
        self.sequence, self.says, self.reachable = 1, True, True
        self.asked: list[str] = []
        self.told: list[Callable[[int], None]] = []

    def on_trust_sequence(self, told):
        self.told.append(told)

    def mention(self):
        """Answer something else: a question for secrets, say."""
        for told in self.told:
            told(self.sequence)

    async def call(self, path, document=None, *, identity=None, method="POST"):
        self.asked.append(path)
        if not self.reachable:
            raise ControlPlaneUnreachable("cannot reach the control plane")
        if self.says:
            self.mention()
        if path.endswith(f"?sequence={self.sequence}"):
            return {"sequence": self.sequence}
        return {"sequence": self.sequence, "trust_document": self.kit.trust_document(self.sequence)}


@pytest.fixture
async def stage(kit, tmp_path, log):
    return Stage(kit, tmp_path, log)


class Stage:
    """A node with a link to one relay."""

    def __init__(self, kit, directory, log) -> None:
        self.kit, self.control_plane = kit, NamingControlPlane(kit)
        clock = LoopClock(kit.now)
        self.trust = TrustInForce(directory, clock, log)
        self.trust.take(kit.trust_document(1))
        self.relays = [RELAY]
        self.metrics = AgentMetrics(CollectorRegistry())
        self.watch = TrustWatch(
            control_plane=cast(ControlPlane, self.control_plane),
            trust=self.trust,
            linked_relays=lambda: self.relays,
            metrics=self.metrics,
            clock=clock,
            rng=random.Random(1),
            log=log,
        )

    async def passes(self, seconds):
        task = asyncio.create_task(self.watch.run())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.wait([task])

    def fetched(self, reason):
        return self.metrics.trust_fetched.labels(reason)._value.get()


async def test_what_the_relay_keeps_back_is_fetched_a_while_after_it_was_named(stage, logged):
    stage.control_plane.sequence = 5
    asyncio.get_running_loop().call_later(1.0, stage.control_plane.mention)
    await stage.passes(LONGEST_GRACE_SECONDS + 2)
    assert stage.trust.sequence == 5
    assert (stage.fetched("withheld"), stage.fetched("unlinked")) == (1, 0)
    [entry] = [entry for entry in logged.entries if entry["event"] == "trust.withheld"]
    assert (entry["log_level"], entry["relays"], entry["before"], entry["sequence"]) == ("warning", [RELAY], 1, 5)


async def test_where_nothing_else_is_asked_the_node_asks_by_itself(stage):
    stage.control_plane.sequence = 5
    await stage.passes(FAR)
    assert stage.trust.sequence == 5
    assert len(stage.control_plane.asked) == 2


async def test_what_the_relay_brings_in_time_is_not_fetched(stage, kit, logged):
    loop = asyncio.get_running_loop()
    stage.control_plane.sequence = 5
    loop.call_later(1.0, stage.control_plane.mention)
    loop.call_later(20.0, lambda: stage.trust.take(kit.trust_document(5)))
    await stage.passes(LONGEST_GRACE_SECONDS + 2)
    assert stage.control_plane.asked == []
    assert stage.fetched("withheld") == 0
    assert not any(entry["event"] == "trust.withheld" for entry in logged.entries)


async def test_a_node_that_hears_the_number_it_holds_asks_nothing(stage):
    loop = asyncio.get_running_loop()
    for moment in range(0, 3600, 200):
        loop.call_later(moment, stage.control_plane.mention)
    await stage.passes(3600)
    assert stage.control_plane.asked == []


async def test_the_age_is_that_of_the_last_confirmation(stage, kit):
    loop = asyncio.get_running_loop()
    loop.call_later(100.0, stage.control_plane.mention)
    await stage.passes(150.0)
    assert stage.watch.age_seconds == pytest.approx(50.0)
    stage.control_plane.sequence = 5
    stage.control_plane.mention()
    assert stage.watch.age_seconds == pytest.approx(50.0)
    stage.trust.take(kit.trust_document(5))
    stage.control_plane.mention()
    assert stage.watch.age_seconds == 0.0


async def test_without_a_link_there_is_nobody_to_blame(stage, logged):
    stage.relays = []
    stage.control_plane.sequence = 5
    await stage.passes(FAR)
    assert (stage.fetched("withheld"), stage.fetched("unlinked")) == (0, 1)
    assert not any(entry["log_level"] == "warning" for entry in logged.entries)


async def test_a_node_that_lost_its_links_meanwhile_waits_for_nobody(stage):
    """It was revoked, say: each relay cuts its link as it takes the document, which so never arrives over one."""
    loop = asyncio.get_running_loop()
    stage.control_plane.sequence = 5
    loop.call_later(1.0, stage.control_plane.mention)
    loop.call_later(2.5, stage.relays.clear)
    await stage.passes(2.5 + 2 * STEP_SECONDS)
    assert stage.trust.sequence == 5
    assert (stage.fetched("withheld"), stage.fetched("unlinked")) == (0, 1)


async def test_an_older_number_is_nothing(stage):
    """A control plane that was restored from a backup, or another one that is a moment behind."""
    stage.trust.take(stage.kit.trust_document(9))
    await stage.passes(FAR)
    assert stage.trust.sequence == 9
    assert stage.fetched("withheld") == 0


async def test_a_control_plane_that_names_no_number_is_not_asked_for_documents(stage):
    stage.control_plane.says, stage.control_plane.sequence = False, 5
    await stage.passes(FAR)
    assert stage.trust.sequence == 1


async def test_while_the_control_plane_is_away_it_is_asked_seldom_and_then_in_time(stage):
    stage.control_plane.reachable = False
    stage.control_plane.sequence = 5
    stage.control_plane.mention()
    await stage.passes(3600)
    assert 5 <= len(stage.control_plane.asked) <= 30
    stage.control_plane.reachable = True
    await stage.passes(FAR)
    assert stage.trust.sequence == 5


async def test_a_document_that_is_named_and_not_good_does_not_make_it_storm(stage, monkeypatch):
    monkeypatch.setattr(stage.kit, "trust_document", lambda sequence: "garbage")
    stage.control_plane.sequence = 5
    await stage.passes(3600)
    assert stage.trust.sequence == 1
    assert len(stage.control_plane.asked) <= 3600 / 30 + 1
