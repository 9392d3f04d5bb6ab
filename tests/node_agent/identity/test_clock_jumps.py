"""A fleet whose clocks are all set wrong at once: nobody ends, nobody storms, and all go on once they are right."""

import asyncio
import random
from collections import Counter
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from node_agent.identity.bootstrap import Bootstrap
from node_agent.identity.credentials import Credentials
from node_agent.identity.late_renewal import LateRenewal
from node_agent.identity.node_identity import IdentityStore, NodeIdentity
from node_agent.identity.renewal import CATCH_UP_SECONDS, SPREAD_SECONDS, Renewal
from node_agent.identity.returning import Returning
from node_agent.identity.succession import RENEW_PATH, Succession
from node_agent.identity.trust_in_force import TrustInForce
from node_agent.metrics import AgentMetrics
from tests.support.identities import NODE, NODE_ID, WORKSPACE, WORKSPACE_ID
from tests.support.loop_clock import LoopClock
from trunkline.client.clock_offset import ClockOffset
from trunkline.client.control_plane_answers import ClockSkewed
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.secret import Secret

VIRTUAL_TIME = True
# Fleets compute for seconds, and of a machine that does other things too for many.
pytestmark = pytest.mark.timeout(240)
AGENTS = 300
HOUR = 3600.0
JUMP = 90 * 86400.0


class TimedControlPlane:
    """Notes when it is asked. Its certificate is valid only to a clock that is right, as a real one's is."""

    def __init__(self, clock: LoopClock) -> None:
        self._clock, self._right = clock, clock.offset
        self.asked: list[float] = []

    async def call(self, path, document=None, *, identity=None, method="POST"):
        self.asked.append(self._clock.monotonic())
        await asyncio.sleep(0.05)
        if self._clock.offset != self._right:
            raise ClockSkewed("clock_skew: the certificate is not valid at the time that this machine's clock shows")
        return {"trust_document": ""}

    def require_clock(self):
        """The clock was right when the last answer came."""


class SleepersControlPlane:
    """One agent's, whose clock is right: notes when it asks for a pair, and does not answer."""

    def __init__(self) -> None:
        self.renewals: list[float] = []

    async def call(self, path, document=None, *, identity=None, method="POST"):
        if path == RENEW_PATH:
            self.renewals.append(asyncio.get_running_loop().time())
            await asyncio.Event().wait()
        return {"trust_document": ""}

    def require_clock(self):
        """It is right."""


def an_agent(node, control_plane, clock, directory, log, seed):
    rng, store = random.Random(seed), IdentityStore(directory)
    trust = TrustInForce(directory, clock, log)
    succession = Succession(
        control_plane=control_plane,
        store=store,
        trust=trust,
        directory=directory,
        clock=clock,
        log=log,
    )
    returning = Returning(
        store=store,
        succession=succession,
        late_renewal=LateRenewal(control_plane, succession),
        bootstrap=cast(Bootstrap, None),
        backoff=Backoff(rng),
        clock=clock,
        log=log,
    )
    return Renewal(
        control_plane=control_plane,
        credentials=Credentials(node, store),
        trust=trust,
        succession=succession,
        returning=returning,
        prove=lambda heir: asyncio.sleep(0, result=True),
        metrics=AgentMetrics(CollectorRegistry()),
        clock=clock,
        rng=rng,
        log=log,
    )


def a_node(kit, **issued):
    identity = kit.issue_node(**issued)
    return NodeIdentity(
        identity=identity,
        node_id=NODE_ID,
        node=NODE,
        workspace_id=WORKSPACE_ID,
        workspace=WORKSPACE,
        name_suffix="trunk.internal",
        listen_token=Secret(kit.listen_token(identity)),
        sealing_key=Secret("x"),
        confirmed=True,
    )


async def jumped(kit, tmp_path, log, jump):
    """Let a fleet's clocks jump for two hours; returns when the control plane was asked, and how many still run."""
    clock = LoopClock(kit.now)
    control_plane, node = TimedControlPlane(clock), a_node(kit)
    fleet = [an_agent(node, control_plane, clock, tmp_path, log, seed) for seed in range(AGENTS)]
    tasks = [asyncio.create_task(agent.run()) for agent in fleet]
    await asyncio.sleep(1000)
    assert control_plane.asked == []
    clock.offset += jump
    await asyncio.sleep(2 * HOUR)
    asked = list(control_plane.asked)
    clock.offset -= jump
    await asyncio.sleep(600)
    settled = len(control_plane.asked)
    await asyncio.sleep(HOUR)
    assert len(control_plane.asked) == settled
    running = sum(not task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return asked, running


async def test_ninety_days_ahead_is_no_crash_and_no_stampede(kit, tmp_path, log, logged):
    asked, running = await jumped(kit, tmp_path, log, JUMP)
    assert running == AGENTS
    assert len(asked) > AGENTS
    assert max(Counter(int(moment) for moment in asked).values()) <= AGENTS / 10
    assert len([moment for moment in asked if moment > 1000 + HOUR]) / AGENTS < 30
    assert any(entry["event"] == "clock_skew" for entry in logged.entries)


async def test_ninety_days_back_is_no_crash_and_no_stampede(kit, tmp_path, log):
    asked, running = await jumped(kit, tmp_path, log, -JUMP)
    assert running == AGENTS
    assert max(Counter(int(moment) for moment in asked).values()) <= AGENTS / 10


class FrozenClock(LoopClock):
    """Both clocks of a process that was stopped: they have gone on, and nobody has noticed."""

    def __init__(self, now: float) -> None:
        super().__init__(now)
        self._began = self.offset

    def monotonic(self) -> float:
        return super().monotonic() + self.offset - self._began


@pytest.mark.parametrize("make_clock", [LoopClock, FrozenClock])
async def test_a_fleet_that_slept_through_its_renewals_does_not_wake_to_a_stampede(kit, tmp_path, log, make_clock):
    """A host with many machines was suspended for 17 hours, or its containers frozen: the clocks are right."""
    clock, node = make_clock(kit.now), a_node(kit)
    asked = [SleepersControlPlane() for _ in range(AGENTS)]
    fleet = [an_agent(node, asked[seed], clock, tmp_path, log, seed) for seed in range(AGENTS)]
    tasks = [asyncio.create_task(agent.run()) for agent in fleet]
    await asyncio.sleep(1000)
    clock.offset += 17 * HOUR
    await asyncio.sleep(CATCH_UP_SECONDS + SPREAD_SECONDS + 1)
    first = [one.renewals[0] for one in asked]
    assert max(Counter(int(moment) for moment in first).values()) <= 5
    assert max(first) - min(first) > 0.9 * CATCH_UP_SECONDS
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_is_caught_up_on_is_done_long_before_the_pair_ends(kit, tmp_path, log):
    clock, node = LoopClock(kit.now), a_node(kit, lifetime_seconds=600)
    control_plane = SleepersControlPlane()
    clock.offset += 500
    task = asyncio.create_task(an_agent(node, control_plane, clock, tmp_path, log, 1).run())
    await asyncio.sleep(25.1)
    assert control_plane.renewals
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("jump", [JUMP, 100.0 - 1_800_000_000.0])
async def test_an_agent_that_starts_with_a_wrong_clock_serves_as_soon_as_it_is_right(kit, tmp_path, log, jump):
    clock, node = LoopClock(kit.now), a_node(kit)
    control_plane = TimedControlPlane(clock)
    returning = an_agent(node, control_plane, clock, tmp_path, log, 1)._returning
    clock.offset += jump
    asyncio.get_running_loop().call_later(5, setattr, clock, "offset", clock.offset - jump)
    assert await returning.run(node) is node
    assert clock.monotonic() <= 6.0
    assert len(control_plane.asked) == 1


async def test_a_minute_more_or_less_is_nothing(kit, tmp_path, log, logged):
    for jump in (59.0, -59.0):
        asked, running = await jumped(kit, tmp_path, log, jump)
        assert (asked, running) == ([], AGENTS)
    assert logged.entries == []


async def test_the_offset_is_known_from_the_jump_alone(kit):
    clock = LoopClock(kit.now)
    offset = ClockOffset(clock)
    offset.observe("Thu, 01 Jan 1970 00:00:00 GMT", clock.now(), clock.now())
    before = offset.seconds
    assert before is not None
    clock.offset += JUMP
    assert offset.seconds == round(before - JUMP, 3)
