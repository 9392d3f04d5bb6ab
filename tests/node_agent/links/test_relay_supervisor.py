"""What a change of the network does to a supervisor of links, in virtual time; the rest is in test_relay_links."""

import asyncio
import random

from node_agent.links.attachment import Attachment
from node_agent.links.relay_supervisor import CHANGE_SPREAD_SECONDS, RelaySupervisor
from tests.support.links import Owner, Recorder
from tests.support.loop_clock import LoopClock
from tests.support.memory_transport import MemoryTransport, memory_pair
from tests.support.virtual_time import in_virtual_time
from trunkline.channel.errors import ConnectionLost
from trunkline.channel.limits import Limits
from trunkline.channel.link import Link, Role
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.logs import get_logger


class Relay:
    """Grants links over memory, or nothing; and hears what is told of them."""

    def __init__(self):
        self.away = False
        self.dialled_at = []
        self.transports: tuple[MemoryTransport, ...] = ()
        self.links = []
        self._loop = asyncio.get_running_loop()
        rng = random.Random(1)
        self.supervisor = RelaySupervisor(
            "https://relay",
            dialer=self,
            make_attachment=lambda url, sequence: Attachment(
                url, sequence, lambda stream, notices: Recorder(stream), lambda document: None, get_logger("test")
            ),
            events=self,
            spawn=asyncio.ensure_future,
            backoff=Backoff(rng),
            clone_backoff_seconds=300.0,
            drain_seconds=300.0,
            urgent=lambda: False,
            clock=LoopClock(),
            rng=rng,
            log=get_logger("test"),
        )

    def become_another(self, url):
        pass

    def has_another(self, attachment):
        return False

    def next_sequence(self):
        return len(self.dialled_at)

    def ended(self, attachment):
        return None

    async def attach(self, attachment, heir=None):
        self.dialled_at.append(self._loop.time())
        if self.away:
            raise ConnectionLost("away")
        self.transports = memory_pair(self._loop)
        attachment.link = Link(Role.SERVER, attachment, loop=self._loop)
        peer = Link(Role.CLIENT, Owner(), loop=self._loop)
        self.links += [attachment.link, peer]
        for transport, link in zip(self.transports, (attachment.link, peer), strict=True):
            transport.start(link)

    def die(self):
        """The way to it carries nothing any more, and nobody is told."""
        for transport in self.transports:
            transport.pause_reading()

    def attached(self, attachment):
        pass

    def detached(self, attachment):
        pass

    def attempted(self, outcome):
        pass

    def token_refused(self):
        pass

    async def end(self, running):
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        for link in self.links:
            link.abort()
            await link.closed
        await asyncio.sleep(0)


@in_virtual_time
async def test_a_link_that_died_with_the_change_is_replaced_after_one_ping():
    relay = Relay()
    running = asyncio.create_task(relay.supervisor.run())
    await asyncio.sleep(10)
    relay.die()
    await relay.supervisor.network_changed()
    await asyncio.sleep(0.1)
    assert len(relay.dialled_at) == 2
    assert relay.dialled_at[1] < 10.1 + Limits().ping_timeout_seconds
    await relay.end(running)


@in_virtual_time
async def test_a_link_that_works_is_kept():
    relay = Relay()
    running = asyncio.create_task(relay.supervisor.run())
    await asyncio.sleep(10)
    await relay.supervisor.network_changed()
    await asyncio.sleep(100)
    assert len(relay.dialled_at) == 1
    await relay.end(running)


@in_virtual_time
async def test_a_relay_out_of_reach_is_dialled_soon_and_not_after_a_long_pause():
    relay = Relay()
    relay.away = True
    running = asyncio.create_task(relay.supervisor.run())
    await asyncio.sleep(600)
    while asyncio.get_running_loop().time() - relay.dialled_at[-1] > 1.0:  # noqa: ASYNC110 - an attempt just now
        await asyncio.sleep(0.5)
    relay.away = False
    attempts, changed_at = len(relay.dialled_at), asyncio.get_running_loop().time()
    await relay.supervisor.network_changed()
    await asyncio.sleep(0.1)
    assert len(relay.dialled_at) == attempts + 1
    assert relay.dialled_at[-1] - changed_at <= CHANGE_SPREAD_SECONDS
    await relay.end(running)


@in_virtual_time
async def test_over_a_way_on_which_links_live_for_seconds_the_node_is_there_most_of_the_time():
    relay = Relay()
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(relay.supervisor.run())
    lost_at, away = 0.0, []
    for turn in range(100):
        while len(relay.dialled_at) <= turn:  # noqa: ASYNC110 - the next link
            await asyncio.sleep(0.05)
        away.append(relay.dialled_at[turn] - lost_at)
        await asyncio.sleep(4)
        relay.links[-1].abort()
        lost_at = loop.time()
    assert max(away) <= 4.0
    await relay.end(running)
