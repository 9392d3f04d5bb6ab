"""A relay that goes with ten thousand links, and how they come back: the backoff and the supervisors of the agents, the
pace and the line of the relay, in virtual time.

What is not here is the network and TLS: a connection is in the line at once, and takes a tenth of a second from the
beginning of its handshake to its link.
"""

import asyncio
import random
from bisect import bisect_left
from typing import Any

import structlog

from node_agent.links.attachment import Attachment, Ending
from node_agent.links.relay_supervisor import URGENT_SHARE, RelaySupervisor
from relay.links.nodes_return import RETURN_SLACK
from relay.port.acceptor import HOLD_SECONDS, TURN_SECONDS
from relay.port.handshake_pace import HandshakePace
from relay.port.handshake_queue import HandshakeQueue
from relay.settings import LimitsSettings
from tests.support.loop_clock import LoopClock
from tests.support.virtual_time import in_virtual_time
from trunkline.channel.errors import ConnectionLost
from trunkline.channel.upgrade import LONGEST_RETURN_SECONDS
from trunkline.channel.upgrade_protocol import CutBeforeTls
from trunkline.runtime.backoff import BURST_STEP_SECONDS, Backoff

BUDGET = LimitsSettings().handshakes_per_second
HANDSHAKE_SECONDS = 0.1
GIVE_UP_SECONDS = 5.0
AWAY_SECONDS = 2.0


def dropped(*_: Any) -> Any:
    raise structlog.DropEvent


QUIET = structlog.wrap_logger(structlog.testing.CapturingLogger(), processors=[dropped])


class Waiting:
    """A connection in the line."""

    def __init__(self, source: str, now: float) -> None:
        self.source = source
        self.accepted_at = self.begun_at = now
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Port:
    """The relay's port: the line as the acceptor keeps it."""

    def __init__(self) -> None:
        limits = LimitsSettings()
        self.pace = HandshakePace(BUDGET)
        self.line: HandshakeQueue[Waiting] = HandshakeQueue(
            max_handshakes=limits.max_handshakes,
            max_per_source=limits.max_handshakes_per_address,
            max_waiting=int(self.pace.sustained_per_second * HOLD_SECONDS) + 1,
            pace=self.pace,
        )
        self.open = False
        self.begun: list[float] = []
        self.cut = 0
        self._loop = asyncio.get_running_loop()

    async def connect(self, source: str) -> None:
        """Come back with TLS, or say why not."""
        if not self.open:
            raise ConnectionLost("the port is closed")
        arrival = Waiting(source, self._loop.time())
        if self.line.enter(arrival, self._loop.time()):
            self._begin(arrival)
        elif (surplus := self.line.surplus()) is not None:
            self.cut += 1
            surplus.turn.set_exception(CutBeforeTls("no room"))
        try:
            async with asyncio.timeout(GIVE_UP_SECONDS):
                await arrival.turn
        except TimeoutError:
            raise ConnectionLost("the relay did not answer") from None
        await asyncio.sleep(HANDSHAKE_SECONDS)
        self.line.end(arrival, self._loop.time())

    async def run(self) -> None:
        while True:
            await asyncio.sleep(TURN_SECONDS if self.line.waiting else 10 * TURN_SECONDS)
            while self.line.waiting and (arrival := self.line.next(self._loop.time())) is not None:
                if arrival.turn.cancelled():
                    self.line.forgo(arrival)
                else:
                    self._begin(arrival)

    def _begin(self, arrival: Waiting) -> None:
        self.begun.append(self._loop.time())
        arrival.turn.set_result(None)

    def most_in_a_second(self) -> int:
        return max(index + 1 - bisect_left(self.begun, at - 0.999_999) for index, at in enumerate(self.begun))


class Agent:
    """One node's supervisor of its link, over a dialler that knows no bytes."""

    def __init__(self, number: int, port: Port, *, source: str, told_seconds: int, urgent: bool) -> None:
        self.port, self.source, self.told_seconds, self.urgent = port, source, told_seconds, urgent
        self.attachment: Attachment | None = None
        self.linked_before = False
        self.back_at = 0.0
        self.attempts = 0
        rng = random.Random(number)
        self.supervisor = RelaySupervisor(
            "https://relay",
            dialer=self,
            make_attachment=lambda url, sequence: Attachment(url, sequence, lambda *_: None, lambda _: None, QUIET),  # type: ignore[arg-type]
            events=self,
            spawn=lambda coroutine: coroutine.close(),
            backoff=Backoff(rng),
            clone_backoff_seconds=300.0,
            drain_seconds=300.0,
            urgent=lambda: urgent,
            clock=LoopClock(),
            rng=rng,
            log=QUIET,
        )

    def become_another(self, url: str) -> None:
        """Nobody is superseded here."""

    def has_another(self, attachment: Attachment) -> bool:
        return False

    def next_sequence(self) -> int:
        return 1

    def ended(self, attachment: Attachment) -> None:
        return None

    async def attach(self, attachment: Attachment, heir: Any = None) -> None:
        self.attempts += 1
        if self.linked_before:
            await self.port.connect(self.source)
        self.linked_before = True
        attachment.return_within_seconds = self.told_seconds
        self.back_at = asyncio.get_running_loop().time()
        self.attachment = attachment

    def attached(self, attachment: Attachment) -> None:
        pass

    def detached(self, attachment: Attachment) -> None:
        self.attachment = None

    def attempted(self, outcome: str) -> None:
        pass

    def token_refused(self) -> None:
        pass


async def storm(agents: list[Agent], port: Port, away_seconds: float = AWAY_SECONDS) -> float:
    """Have the relay go with all links, and its port open after a while; returns when that was."""
    loop = asyncio.get_running_loop()
    running = [asyncio.create_task(agent.supervisor.run()) for agent in agents]
    running.append(asyncio.create_task(port.run()))
    await asyncio.sleep(20)
    for agent in agents:
        if agent.attachment is not None:
            agent.attachment.end(Ending.LOST)
    await asyncio.sleep(away_seconds)
    port.open = True
    opened_at = loop.time()
    async with asyncio.timeout(300):
        while not all(agent.attachment for agent in agents):  # noqa: ASYNC110 - in virtual time this costs nothing
            await asyncio.sleep(1)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return opened_at


def told(count: int) -> int:
    seconds = round(count / HandshakePace(BUDGET).sustained_per_second * RETURN_SLACK)
    return min(seconds, LONGEST_RETURN_SECONDS)


def after(agents: list[Agent], share: float, opened_at: float) -> float:
    """After how many seconds this share of the agents was back."""
    return sorted(agent.back_at for agent in agents)[int(len(agents) * share) - 1] - opened_at


def fleet(count: int, port: Port, *, told_seconds: int, sources: int, urgent_every: int = 0) -> list[Agent]:
    return [
        Agent(
            number,
            port,
            source=f"address-{number % sources}",
            told_seconds=told_seconds,
            urgent=bool(urgent_every) and number % urgent_every == 0,
        )
        for number in range(count)
    ]


@in_virtual_time
async def test_ten_thousand_are_back_within_a_minute_and_never_faster_than_the_budget():
    port = Port()
    agents = fleet(10_000, port, told_seconds=told(10_000), sources=10_000, urgent_every=20)
    opened_at = await storm(agents, port)
    assert after(agents, 0.99, opened_at) <= 60
    assert port.most_in_a_second() <= BUDGET
    urgent, others = [a for a in agents if a.urgent], [a for a in agents if not a.urgent]
    assert after(urgent, 0.99, opened_at) <= told(10_000) * URGENT_SHARE + 5
    assert after(urgent, 0.5, opened_at) < after(others, 0.5, opened_at) / 2
    assert sum(agent.attempts for agent in agents) < 5 * len(agents)


@in_virtual_time
async def test_a_thousand_behind_one_address_are_back_within_fifteen_seconds():
    port = Port()
    agents = fleet(1000, port, told_seconds=told(1000), sources=1)
    opened_at = await storm(agents, port)
    assert after(agents, 0.99, opened_at) <= 15
    assert port.most_in_a_second() <= BUDGET


@in_virtual_time
async def test_a_crowd_that_was_told_nothing_comes_in_by_being_cut():
    port = Port()
    agents = fleet(2000, port, told_seconds=0, sources=100)
    opened_at = await storm(agents, port, away_seconds=0.2)
    assert port.cut > 500
    assert after(agents, 0.99, opened_at) <= 15
    assert port.most_in_a_second() <= BUDGET
    assert port.cut < 5 * len(agents)


@in_virtual_time
async def test_a_lone_agent_is_back_as_soon_as_the_port_is_open():
    port = Port()
    agents = fleet(1, port, told_seconds=told(1), sources=1)
    opened_at = await storm(agents, port)
    assert after(agents, 1.0, opened_at) <= HANDSHAKE_SECONDS + BURST_STEP_SECONDS
