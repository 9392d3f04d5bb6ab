"""Links over in-memory transports, with owners and handlers that write down what they are told."""

import asyncio
from collections.abc import Callable
from typing import Any

from tests.support.memory_transport import Split, memory_pair
from trunkline.channel.errors import ChannelError
from trunkline.channel.limits import CreditBudget, Limits
from trunkline.channel.link import Link, LinkStream, Role


class Recorder:
    """A handler that keeps what it is told; with `consume=False` it never gives credit back."""

    def __init__(self, stream: LinkStream | None = None, *, consume: bool = True) -> None:
        if stream is not None:
            self.stream: LinkStream = stream
        self.consume = consume
        self.received = bytearray()
        self.calls: list[str] = []
        self.error: Any = None
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes | memoryview) -> None:
        self.received += data
        self.calls.append("data")
        if self.consume:
            self.stream.consumed(len(data))

    def end_received(self) -> None:
        self.calls.append("end")
        self._finish()

    def window_opened(self) -> None:
        self.calls.append("room")

    def stream_lost(self, error: ChannelError) -> None:
        self.calls.append("lost")
        self.error = error
        self._finish()

    def _finish(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


class Echo(Recorder):
    """Sends back what comes, and ends when the peer does."""

    def __init__(self, stream: LinkStream) -> None:
        super().__init__(stream, consume=False)
        self._outbox = bytearray()

    def data_received(self, data: bytes | memoryview) -> None:
        self._outbox += data
        self.window_opened()

    def end_received(self) -> None:
        super().end_received()
        self.window_opened()

    def window_opened(self) -> None:
        while self._outbox and (room := self.stream.send_room_bytes):
            piece = bytes(self._outbox[:room])
            del self._outbox[:room]
            self.stream.write(piece)
            self.stream.consumed(len(piece))
        if not self._outbox and "end" in self.calls and self.stream.writable:
            self.stream.end()


class Source(Recorder):
    """Sends bytes as fast as it may, then ends."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.left = memoryview(data)

    def begin(self, link: Link) -> LinkStream:
        self.stream = link.open(self)
        self.window_opened()
        return self.stream

    def window_opened(self) -> None:
        while self.left and (room := self.stream.send_room_bytes):
            self.stream.write(self.left[:room])
            self.left = self.left[room:]
        if not self.left and self.stream.writable:
            self.stream.end()


class Owner:
    """Gives every stream offered a handler of the kind wanted."""

    def __init__(self, handler: Callable[[LinkStream], Any] = Recorder) -> None:
        self._handler = handler
        self.handlers: list[Any] = []
        self.codes: list[int] = []
        self.losses: list[Any] = []

    def stream_offered(self, stream: LinkStream) -> Any:
        handler = self._handler(stream)
        if handler is not None:
            self.handlers.append(handler)
        return handler

    def go_away_received(self, link: Link, code: int) -> None:
        self.codes.append(code)

    def link_lost(self, link: Link, error: ChannelError | None) -> None:
        self.losses.append(error)


class LinkPair:
    """A client's link and a server's, connected."""

    def __init__(
        self,
        handler: Callable[[LinkStream], Any] = Recorder,
        *,
        limits: Limits | None = None,
        compact: bool = False,
        split: Split = Split.WHOLE,
        delay_seconds: float = 0.0,
        capacity_bytes: int = 0,
        loss: float = 0.0,
        seed: int = 0,
        keepalive_seconds: float | None = 15.0,
        budget: CreditBudget | None = None,
        on_handler_error: Callable[[LinkStream | None, Exception], None] | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        limits = limits or Limits()
        self.client_owner, self.server_owner = Owner(handler), Owner(handler)
        self.client, self.server = (
            Link(
                role,
                owner,
                loop=loop,
                limits=limits,
                send_window_bytes=limits.initial_window_bytes,
                compact=compact,
                keepalive_seconds=keepalive_seconds,
                budget=budget,
                on_handler_error=on_handler_error,
            )
            for role, owner in ((Role.CLIENT, self.client_owner), (Role.SERVER, self.server_owner))
        )
        self.client_transport, self.server_transport = memory_pair(
            loop, split=split, delay_seconds=delay_seconds, capacity_bytes=capacity_bytes, loss=loss, seed=seed
        )
        self.client_transport.start(self.client)
        self.server_transport.start(self.server)

    async def close(self) -> None:
        self.client.abort()
        self.server.abort()
        await asyncio.wait([self.client.closed, self.server.closed])


def open_recorder(link: Link) -> Recorder:
    """Open a stream with a handler that writes down what it is told."""
    handler = Recorder()
    handler.stream = link.open(handler)
    return handler


async def ticks(count: int = 10) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool], step_seconds: float = 0.01) -> None:
    """Wait for something that nothing announces; the test's time limit, or the loop's, bounds it."""
    while not condition():  # noqa: ASYNC110 - in virtual time this costs nothing
        await asyncio.sleep(step_seconds)
