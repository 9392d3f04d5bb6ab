"""Nodes as a copying meets them: the real agent behind a way that breaks, and one that says what a test says."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from certs.tls import client_context
from tests.support.agent_exchanges import HOST, Agent
from tests.support.canned_relay import Answering, CannedCall, CannedRelay
from trunkline.channel.heads import write_request_head
from trunkline.client.node_response import NodeResponse
from trunkline.client.node_sender import NodeSender


@dataclass
class CalledNode:
    """A node that is called with the same token each time."""

    sender: NodeSender
    token: str | None

    async def request(self, method: str, path: str, *, scopes: tuple[str, ...], body: Any = None) -> NodeResponse:
        return await self.sender.request(method, HOST, path, token=self.token, body=body)


@contextlib.asynccontextmanager
async def called_node(answering: Answering, token: str | None = None) -> AsyncIterator[CalledNode]:
    """A node all of whose calls are answered by `answering`."""
    relay = CannedRelay(answering)
    sender = NodeSender(
        "https://relay.test", ssl_context=client_context(), dial=relay.dial, rng=random.Random(1)
    )  # fmt: skip
    try:
        yield CalledNode(sender, token)
    finally:
        await sender.close()
        await relay.close()


@dataclass
class BreakingWay:
    """Takes calls to an agent; calls about contents are cut after so many bytes have passed, each but the last once.

    The last cut waits for `settled`, if there is that: of what has passed nothing may have arrived yet.
    """

    agent: Agent
    cuts: list[int] = field(default_factory=list)
    settled: Callable[[], Awaitable[None]] | None = None
    calls: list[str] = field(default_factory=list)

    async def answer(self, call: CannedCall) -> None:
        target = call.head.target.decode()
        self.calls.append(f"{call.head.method.decode()} {target.partition('?')[0]}")
        left = [self.cuts.pop(0)] if self.cuts and "/content" in target else None
        reader, writer = self.agent.open()
        writer.write(write_request_head(call.head.method, call.head.target, list(call.head.fields)))
        broken = asyncio.Event()
        there = asyncio.create_task(_pass(call.reader, writer, left, broken))
        back = asyncio.create_task(_pass(reader, call.writer, left, broken))
        breaking = asyncio.create_task(broken.wait())
        await asyncio.wait([back, breaking], return_when=asyncio.FIRST_COMPLETED)
        if broken.is_set():
            if not self.cuts and self.settled is not None:
                await self.settled()
            call.reset()
            writer.transport.abort()
        for task in (there, back, breaking):
            task.cancel()
        await asyncio.wait([there, back, breaking])
        if not broken.is_set():
            writer.close()


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: list[int] | None, broken: asyncio.Event
) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(16_384):
            if left is not None:
                left[0] = max(0, left[0] - len(data))
                if not left[0]:
                    broken.set()
                    return
            writer.write(data)
            await writer.drain()
