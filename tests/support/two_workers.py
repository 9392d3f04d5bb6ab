"""Two workers of a relay in one event loop: their data paths, the link between them, and a parent's switchboard."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from relay.workers.hop import hop_limits
from relay.workers.siblings import Siblings
from relay.workers.splice import HopDoor
from relay.workers.switchboard import Switchboard
from tests.support.memory_transport import MemoryTransport, memory_pair
from tests.support.small_relay import SmallRelay
from tests.support.virtual_time import given_in_virtual_time
from trunkline.channel.flushing import LATE_SECONDS
from trunkline.channel.link import Link, Role
from trunkline.runtime.logs import get_logger


class TwoWorkers:
    """Workers 1 and 2; messages between them and the parent take a turn of the loop each."""

    def __init__(self, loop: asyncio.AbstractEventLoop, **limits: Any) -> None:
        self.loop = loop
        self.told: list[tuple[int, str, dict[str, Any]]] = []
        self.nodes = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._transports: list[MemoryTransport] = []
        self.switchboard = Switchboard(self, spawn=self._spawn, counted=self._count, ping_seconds=3.0)
        self.siblings = {
            place: Siblings(functools.partial(self._tell, place), self._spawn, get_logger("test")) for place in (1, 2)
        }
        self.relays = {place: SmallRelay(loop, self.siblings[place], **limits) for place in (1, 2)}
        for place, relay in self.relays.items():
            self.siblings[place].serve(relay.registry)
        for siblings in self.siblings.values():
            self._spawn(siblings.keep_linked())
        self.links: dict[int, Link] = {}
        self._linking = False
        self.link()

    def link(self) -> None:
        """Link the two, as new socket pairs do."""
        ends = memory_pair(self.loop)
        for (place, other), role, transport in zip(((1, 2), (2, 1)), (Role.CLIENT, Role.SERVER), ends, strict=True):
            link = self.links[place] = self._make_link(place, role)
            transport.start(link.as_protocol())
            self.siblings[place].linked(other, link)
        self._transports += ends

    def _make_link(self, place: int, role: Role) -> Link:
        relay = self.relays[place]
        door = HopDoor(
            find=self.siblings[place].listener,
            hopped=lambda: None,
            lost=self.siblings[place].unlinked,
            deadlines=relay.deadlines,
            untaken=relay.front.untaken,
            listener_seconds=relay.limits.listener_seconds,
            stall_seconds=relay.limits.stream_stall_seconds,
        )
        limits = hop_limits(window_bytes=65_536, budget_bytes=16 * 1024 * 1024)
        return Link(
            role,
            door,
            loop=self.loop,
            limits=limits,
            send_window_bytes=65_536,
            compact=True,
            keepalive_seconds=None,
            budget=relay.budget,
        )

    # The parent's voice, as the switchboard needs it.

    def send(self, place: int, kind: str, **members: Any) -> None:
        self.told.append((place, kind, members))
        self.loop.call_soon(self._deliver, place, kind, members)

    def send_all(self, kind: str, *, but: int | None = None, **members: Any) -> list[int]:
        told = [place for place in self.relays if place != but]
        for place in told:
            self.send(place, kind, **members)
        return told

    def link_again(self, one: int, other: int) -> None:
        if not self._linking:
            self._linking = True
            self.loop.call_soon(self._link_now)

    def _link_now(self) -> None:
        self._linking = False
        self.link()

    def _deliver(self, place: int, kind: str, members: dict[str, Any]) -> None:
        getattr(self.siblings[place], f"on_{kind}")(**members)

    def _tell(self, place: int, kind: str, **members: Any) -> None:
        self.loop.call_soon(lambda: getattr(self.switchboard, f"on_{kind}")(place, **members))

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _count(self, nodes: int) -> None:
        self.nodes = nodes

    @property
    def streams(self) -> int:
        """How many calls are between the two."""
        return sum(link.streams for link in self.links.values())

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for relay in self.relays.values():
            relay.close()
        for transport in self._transports:
            transport.abort()


async def settle_across() -> None:
    """Lets everything that is ready happen at both workers, and what may be late; time is virtual."""
    await asyncio.sleep(9 * LATE_SECONDS)


@asynccontextmanager
async def relays_that_report_nothing(*, across: bool, **limits: Any) -> AsyncIterator[list[SmallRelay]]:
    """One relay, or the two workers of one; when all is over no call is between them, and no error was reported."""
    loop = asyncio.get_running_loop()
    reported: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: reported.append(context))
    workers = TwoWorkers(loop, **limits) if across else None
    relays = list(workers.relays.values()) if workers is not None else [SmallRelay(loop, **limits)]
    await asyncio.sleep(0.1)
    yield relays
    assert workers is None or workers.streams == 0
    assert reported == []
    (workers or relays[0]).close()
    await asyncio.sleep(1)


def on_two_workers(**limits: Any) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., None]]:
    """Runs a test in virtual time with TwoWorkers as its first argument; no call may be left when it is over."""
    return given_in_virtual_time(lambda: _running(limits))


@asynccontextmanager
async def _running(limits: dict[str, Any]) -> AsyncIterator[TwoWorkers]:
    workers = TwoWorkers(asyncio.get_running_loop(), **limits)
    await asyncio.sleep(0.1)
    try:
        yield workers
        await asyncio.sleep(10)
        assert not workers.streams
        for relay in workers.relays.values():
            assert not [watched for watched in relay.deadlines._watched if "Hop" in type(watched).__name__]
    finally:
        workers.close()
        await asyncio.sleep(1)
    assert not any(relay.calls_open for relay in workers.relays.values())
