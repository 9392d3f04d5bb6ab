"""From an offered stream to what serves it: the head is read, the caller admitted, and the port decides the rest."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from node_agent.exchanges.callers import Caller, Callers, Refusal
from node_agent.exchanges.control import CONTROL_HOST, NoticeExchange, NoticeReceiver, OpenNotices, offers_notice
from node_agent.exchanges.deadlines import Deadlines
from node_agent.exchanges.forwarder import Forwarder, PortRefusal
from node_agent.exchanges.refusing import Unwanted, write_refusal
from node_agent.metrics import AgentMetrics
from node_agent.policy import API_PORT, END_TO_END_PORT
from trunkline.channel.errors import ChannelError
from trunkline.channel.heads import HeadBuffer, HeadError, RequestHead, parse_request_head
from trunkline.channel.link import LinkStream


class OfferedStream:
    """Reads the head of a stream that the relay has opened."""

    __slots__ = ("_buffer", "_notices", "_router", "_stream")

    def __init__(self, router: "ExchangeRouter", stream: LinkStream, notices: NoticeReceiver) -> None:
        self._router = router
        self._stream = stream
        self._notices = notices
        self._buffer = HeadBuffer()

    def data_received(self, data: bytes | memoryview) -> None:
        """Take bytes until the head is whole; then the stream is somebody else's."""
        stream = self._stream
        try:
            raw = self._buffer.receive_data(data)
            if raw is None:
                stream.consumed(len(data))
                return
            head = parse_request_head(raw)
        except HeadError as error:
            stream.consumed(len(data))
            self._router.refuse(self, stream, error.status, "BAD_REQUEST", str(error))
            return
        leftover = self._buffer.leftover
        stream.consumed(len(data) - len(leftover))
        self._router.route(self, stream, head, leftover, self._notices)

    def end_received(self) -> None:
        """An end before the head is no request."""
        self._router.forget(self)
        self._stream.reset()

    def window_opened(self) -> None:
        """Nothing waits."""

    def stream_lost(self, error: ChannelError) -> None:
        """The relay gave it up."""
        self._router.forget(self)

    @property
    def behind_head_bytes(self) -> int:
        """Bytes that came behind the head and have not been handed back."""
        return len(self._buffer.leftover)

    def expire(self) -> None:
        """The head did not come in time."""
        self._stream.reset()


class ServesApi(Protocol):
    """Answers the agent's own API."""

    def serve(self, stream: LinkStream, head: RequestHead, leftover: bytes, caller: Caller) -> None:
        """Take a stream whose head has been read; `leftover` came behind it and was not handed back."""
        ...


class ServesShells(ServesApi, Protocol):
    """Answers the streams of shells."""

    def takes(self, head: RequestHead) -> bool:
        """Whether a request to the agent's API is one for it."""
        ...


@dataclass(frozen=True, slots=True)
class RoutedTo:
    """What serves admitted streams."""

    api: ServesApi
    shells: ServesShells
    forwarder: Forwarder


class ExchangeRouter:
    """Decides what becomes of every stream that a relay opens."""

    def __init__(
        self,
        callers: Callers,
        targets: RoutedTo,
        lingering: Deadlines[LinkStream],
        metrics: AgentMetrics,
        *,
        refused: Callable[[str], None],
        head_seconds: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Prepare a router; `refused` is told the outcome of each stream that is not admitted."""
        self._refused = refused
        self._callers = callers
        self._targets = targets
        self._lingering = lingering
        self._outcomes = metrics.exchanges
        self._api_count = metrics.exchanges.labels("api")
        self._forwarded_count = metrics.exchanges.labels("forwarded")
        self._notices = OpenNotices()
        self._heads: Deadlines[OfferedStream] = Deadlines(head_seconds, OfferedStream.expire, loop)

    def offered(self, stream: LinkStream, notices: NoticeReceiver) -> OfferedStream:
        """Return the handler of a new stream; `notices` takes what the relay says on that link."""
        offered = OfferedStream(self, stream, notices)
        self._heads.add(offered)
        return offered

    def close(self) -> None:
        """Forget the heads that are still awaited."""
        self._heads.close()

    def forget(self, offered: OfferedStream) -> None:
        """Await its head no more."""
        self._heads.discard(offered)

    def refuse(
        self, offered: OfferedStream, stream: LinkStream, status: int, error_code: str, message: str, *,
        outcome: str = "bad_request", head_only: bool = False,
    ) -> None:  # fmt: skip
        """Answer a stream that goes no further."""
        self.forget(offered)
        stream.consumed(offered.behind_head_bytes)
        self._outcomes.labels(outcome).inc()
        stream.handler = Unwanted(stream, self._lingering)
        stream.write(write_refusal(status, error_code, message, head_only=head_only), end=True)

    def route(
        self, offered: OfferedStream, stream: LinkStream, head: RequestHead, leftover: bytes, notices: NoticeReceiver
    ) -> None:
        """Hand a stream on by the head that was read."""
        if head.host == CONTROL_HOST:
            self._route_notice(offered, stream, head, leftover, notices)
            return
        admitted = self._callers.admit(head.get(b"proxy-authorization"))
        head_only = head.method == b"HEAD"
        if isinstance(admitted, Refusal):
            outcome = admitted.outcome
            self._refused(outcome.metric_label)
            self.refuse(offered, stream, outcome.http_status, outcome.error_code, admitted.message,
                        outcome=outcome.metric_label, head_only=head_only)  # fmt: skip
            return
        port = head.port or API_PORT
        if port == API_PORT and not admitted.through_workspace:
            self.forget(offered)
            self._api_count.inc()
            shells = self._targets.shells
            (shells if shells.takes(head) else self._targets.api).serve(stream, head, leftover, admitted)
        elif port in (API_PORT, END_TO_END_PORT):
            self.refuse(offered, stream, 403, "PERMISSION_DENIED", f"port {port} of the node is not open to this token",
                        outcome="port_not_allowed", head_only=head_only)  # fmt: skip
        else:
            rules = self._targets.forwarder.admit(admitted, port)
            if isinstance(rules, PortRefusal):
                self._refused("port_not_allowed")
                self.refuse(offered, stream, rules.status, rules.error_code, rules.message,
                            outcome="port_not_allowed", head_only=head_only)  # fmt: skip
                return
            self.forget(offered)
            self._forwarded_count.inc()
            self._targets.forwarder.forward(stream, head, leftover, admitted, port, rules)

    def _route_notice(
        self, offered: OfferedStream, stream: LinkStream, head: RequestHead, leftover: bytes, notices: NoticeReceiver
    ) -> None:
        if not offers_notice(head):
            self.refuse(offered, stream, 404, "ENDPOINT_NOT_FOUND", "a relay may only post /v1/notice to link.internal")
            return
        if not self._notices.has_room(stream):
            self.refuse(offered, stream, 429, "RESOURCE_EXHAUSTED", "other notices of this link come first")
            return
        self.forget(offered)
        self._outcomes.labels("notice").inc()
        exchange = NoticeExchange(stream, head, notices, self._lingering)
        self._notices.add(exchange)
        stream.handler = exchange
        if leftover or head.content_length == 0:
            exchange.data_received(leftover)
