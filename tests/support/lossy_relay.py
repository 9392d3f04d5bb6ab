"""A relay in memory that loses things: between a control plane's link and an agent's, it cuts calls where it is told.

Each call that changes something at the node (a submit, a cancel) meets one fault at its first attempt; what is asked
again passes. The bytes on both sides are those of real links, tokens and all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from tests.support.agent_exchanges import Agent
from tests.support.canned_relay import CannedCall, CannedRelay
from tests.support.fake_agent import NO_LISTENER
from trunkline.channel.stream_transport import open_stream_pair


class Cut(Enum):
    """Where the exchange of a control plane with a node is cut."""

    NOTHING = "it is not cut"
    NO_LINK = "the relay says that the node has no link"
    BEFORE = "the stream is reset before the node has seen the call"
    HALF_SENT = "the stream is reset when the node has half of the call"
    AFTER = "the stream is reset when the node has answered"
    LINK = "the control plane's link is lost when the node has answered"
    LATE = "the stream is reset, and the node sees the call seconds later, after another attempt"


@dataclass
class LossyRelay:
    """Passes calls on to the agent; `cut_of` says what happens to the first attempt of a path."""

    cut_of: Callable[[str], Cut]
    agent: Agent | None = None
    cuts: Counter[Cut] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)
    late: list[bytes] = field(default_factory=list)
    relay: CannedRelay = field(init=False)

    def __post_init__(self) -> None:
        self.relay = CannedRelay(self._answer)

    async def deliver_late(self) -> None:
        """Let the node see the calls that were held back."""
        held, self.late = self.late, []
        for raw in held:
            await self._ask(raw)

    async def close(self) -> None:
        await self.relay.close()

    async def _answer(self, call: CannedCall) -> None:
        raw = await _request(call)
        method, target = call.head.method.decode(), call.head.target.decode()
        cut = Cut.NOTHING
        if method in ("PUT", "POST") and target not in self.seen:
            self.seen.add(target)
            cut = self.cut_of(target)
            self.cuts[cut] += 1
        if cut is Cut.NO_LINK or self.agent is None:
            call.answer(NO_LISTENER)
        elif cut is Cut.BEFORE:
            call.reset()
        elif cut is Cut.HALF_SENT:
            await self._send_half(raw)
            call.reset()
        elif cut is Cut.LATE:
            self.late.append(raw)
            call.reset()
        else:
            answer = await self._ask(raw)
            await self._pass_back(call, cut, answer)

    async def _pass_back(self, call: CannedCall, cut: Cut, answer: bytes) -> None:
        if cut is Cut.AFTER:
            call.reset()
        elif cut is Cut.LINK:
            for link in self.relay.links:
                link.abort()
        else:
            call.answer(answer)

    async def _ask(self, raw: bytes) -> bytes:
        assert self.agent is not None
        reader, writer = open_stream_pair(self.agent.relay.open())
        writer.write(raw)
        try:
            return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _send_half(self, raw: bytes) -> None:
        assert self.agent is not None
        reader, writer = open_stream_pair(self.agent.relay.open())
        writer.write(raw[: len(raw) - 20])
        await asyncio.sleep(0)
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await reader.read()


async def _request(call: CannedCall) -> bytes:
    """The whole request again, as it came."""
    length = int(call.head.get(b"content-length") or b"0")
    body = await call.reader.readexactly(length) if length else b""
    lines = [b"%b %b HTTP/1.1" % (call.head.method, call.head.target)]
    lines += [b"%b: %b" % (name, value) for name, value in call.head.fields]
    return b"\r\n".join([*lines, b"", b""]) + body
