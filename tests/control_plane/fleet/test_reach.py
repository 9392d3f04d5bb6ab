"""Reaching nodes: every relay is tried, the last good one first; what may have arrived is told from what has not."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import delete, event

from control_plane.fleet.reach import NodeCall, NodeReach, NotReachedError, UnansweredError
from control_plane.metrics import ControlPlaneMetrics
from control_plane.storage.database import Database
from control_plane.storage.errors import StorageUnreachableError
from control_plane.storage.migrate import migrate
from control_plane.storage.records.relays import Relay
from tests.support.canned_relay import CannedRelay
from tests.support.fake_agent import FakeAgent
from tests.support.identities import IdentityKit
from trunkline.client.node_sender import NodeSender
from trunkline.runtime.clock import ManualClock

HOST = "vm-1.finance.trunk.internal"
CALL = NodeCall("nd-1", HOST, "GET", "/v1/health", "token", "health", timeout_seconds=30.0)


class Relays:
    """Two relays in memory, each with a view of the node of its own."""

    def __init__(
        self,
        database: Database,
        reach: NodeReach,
        clock: ManualClock,
        agents: list[FakeAgent],
        relays: list[CannedRelay],
    ) -> None:
        self.database = database
        self.reach = reach
        self.clock = clock
        self.agents = agents
        self.relays = relays

    def counts(self) -> list[int]:
        return [agent.count("GET") for agent in self.agents]

    def take_nothing_more(self) -> None:
        """The relays no longer read their links."""
        for relay in self.relays:
            for link in relay.links:
                assert link._transport is not None
                link._transport.pause_reading()


@pytest.fixture
def link_timeout_seconds() -> float:
    """For how long a call waits for a link to the first relay."""
    return 30.0


@pytest.fixture
async def two(tmp_path: Path, link_timeout_seconds: float) -> AsyncIterator[Relays]:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
    await migrate(database)
    async with database.write() as session:
        for number in range(2):
            session.add(
                Relay(
                    relay_id=f"rl-{number}",
                    relay=f"relay-{number}",
                    dns_names=["x"],
                    url=f"https://relay-{number}.test",
                    creation_time=1,
                )
            )
    agents = [FakeAgent(), FakeAgent()]
    relays = [agent.relay() for agent in agents]
    kit = IdentityKit(tmp_path)
    clock = ManualClock()

    def sender(url: str) -> NodeSender:
        number = int(url[len("https://relay-")])
        seconds = 30.0 if number else link_timeout_seconds
        return NodeSender(url, ssl_context=kit.client_tls(), dial=relays[number].dial, link_timeout_seconds=seconds)

    metrics = ControlPlaneMetrics(CollectorRegistry())
    reach = NodeReach(database=database, sender=sender, metrics=metrics, clock=clock, close_seconds=0.05)
    yield Relays(database, reach, clock, agents, relays)
    for agent in agents:
        agent.hold.set()
    await reach.close()
    for relay in relays:
        await relay.close()
    await database.close()


async def answer(two: Relays, call: NodeCall = CALL) -> str:
    found = await two.reach.call(call)
    await found.response.read()
    return found.relay_id


async def test_the_relay_that_had_the_node_last_is_tried_first(two: Relays):
    assert await answer(two) == "rl-0"
    two.agents[0].mode["*"] = "offline"
    assert await answer(two) == "rl-1"
    two.agents[0].mode.clear()
    assert await answer(two) == "rl-1"
    assert two.counts() == [2, 2]


@pytest.mark.parametrize("link_timeout_seconds", [0.2])
async def test_a_relay_that_is_down_is_passed_over(two: Relays):
    two.relays[0].down = True
    assert await answer(two) == "rl-1"


@pytest.mark.parametrize("link_timeout_seconds", [3600.0])
async def test_a_relay_that_has_gone_is_not_waited_for_again_by_each_node_that_it_had(two: Relays):
    calls = [replace(CALL, node_id=f"nd-{number}") for number in range(3)]
    for call in calls:
        assert (await two.reach.call(call)).relay_id == "rl-0"
    two.agents[0].mode["*"] = "offline"
    assert await answer(two) == "rl-1"
    two.relays[0].dial_seconds = 3600.0
    for link in two.relays[0].links:
        link.abort()
        await link.closed
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        for call in calls:
            assert (await two.reach.call(call)).relay_id == "rl-1"


async def test_nowhere_is_certain(two: Relays):
    for agent in two.agents:
        agent.mode["*"] = "offline"
    with pytest.raises(NotReachedError, match="no link here"):
        await answer(two)


@pytest.mark.parametrize("mode", ["silent", "reset before", "garbage", "cut by a lock", "cut by a revocation"])
async def test_what_may_have_arrived_is_not_tried_elsewhere(two: Relays, mode: str):
    await answer(two)
    two.agents[0].mode["*"] = mode
    with pytest.raises(UnansweredError):
        await answer(two, replace(CALL, timeout_seconds=0.2) if mode == "silent" else CALL)
    assert two.counts() == [2, 0]


async def test_one_link_carries_all_calls(two: Relays):
    for _ in range(20):
        await answer(two)
    assert [len(relay.links) for relay in two.relays] == [1, 0]


async def test_relays_that_take_nothing_are_cut_when_the_links_are_closed(two: Relays):
    await answer(two)
    two.agents[0].mode["*"] = "offline"
    await answer(two)
    assert [len(relay.links) for relay in two.relays] == [1, 1]
    two.take_nothing_more()
    async with asyncio.timeout(30):
        await two.reach.close()


async def test_no_call_waits_for_a_relay_that_is_on_record_no_more(two: Relays, monkeypatch: pytest.MonkeyPatch):
    await answer(two)
    two.take_nothing_more()
    monkeypatch.setattr(two.reach, "_close_seconds", 60.0)
    async with two.database.write() as session:
        await session.execute(delete(Relay).where(Relay.relay_id == "rl-0"))
    two.clock.advance(10)
    async with asyncio.timeout(30):
        assert await answer(two) == "rl-1"
    for link in two.relays[0].links:
        link.abort()


def lose(database: Database) -> None:
    """Have each transaction that begins from now on find no database."""

    def away(_: object) -> None:
        raise StorageUnreachableError

    for engine in database._engines:
        event.listen(engine.sync_engine, "begin", away)


async def test_nodes_are_reached_where_they_were_while_the_database_is_away(two: Relays):
    await answer(two)
    lose(two.database)
    for _ in range(3):
        two.clock.advance(10)
        assert await answer(two) == "rl-0"


async def test_where_no_relay_is_known_yet_the_database_is_to_blame(two: Relays):
    lose(two.database)
    for _ in range(2):
        with pytest.raises(StorageUnreachableError):
            await answer(two)
