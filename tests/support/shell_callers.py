"""A caller of shells at the relay's end of a link in memory: opens, attaches, and says what it saw."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from tests.support.agent_exchanges import HOST, Agent, Answer
from trunkline.channel.shell_flow import Bytes, ShellEnding, ShellFlow, ShellRole
from trunkline.channel.shell_frames import UPGRADE_PROTOCOL


@dataclass
class ShellCaller:
    """One shell, seen from its caller; `shown` and `complained` are what came of the two outputs."""

    agent: Agent
    token: str
    shell_id: str = "one"
    flow: ShellFlow = field(default_factory=lambda: ShellFlow(ShellRole.CALLER))
    shown: bytes = b""
    complained: bytes = b""
    ending: ShellEnding | None = None
    takes: bool = True

    async def open(self, **request: Any) -> Answer:
        return await self.agent.call(
            "PUT", f"/v1/shells/{self.shell_id}", token=self.token, body=json.dumps(request).encode()
        )

    async def attach(self) -> int:
        """Ask for the upgrade; returns the status of the answer."""
        self.reader, self.writer = self.agent.open()
        lines = [
            f"GET /v1/shells/{self.shell_id} HTTP/1.1",
            f"Host: {HOST}",
            f"Proxy-Authorization: Bearer {self.token}",
            f"Upgrade: {UPGRADE_PROTOCOL.decode()}",
            "Connection: Upgrade",
        ]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        status = int(head.split()[1])
        if status == 101:
            self.flow.connected()
            self.send()
        else:
            self.writer.close()
        return status

    def send(self) -> None:
        self.writer.write(self.flow.data_to_send())

    def type(self, content: bytes) -> None:
        self.flow.write(content)
        if self.flow.attached:
            self.send()

    async def next(self) -> bool:
        """Take what comes next; returns whether anything did before the end of the stream."""
        data = await self.reader.read(65536)
        for event in self.flow.receive_data(data):
            if isinstance(event, Bytes):
                self.shown += b"" if event.is_error else event.content
                self.complained += event.content if event.is_error else b""
                if self.takes:
                    self.flow.taken(len(event.content))
            elif isinstance(event, ShellEnding):
                self.ending = event
        self.send()
        return bool(data)

    async def until(self, text: bytes) -> None:
        """Read on until this was shown."""
        async with asyncio.timeout(30):
            while text not in self.shown:
                assert await self.next(), f"the stream ended before {text!r}: {self.shown[-500:]!r}"

    async def end(self) -> ShellEnding:
        """Read on until the ending, and conclude."""
        async with asyncio.timeout(30):
            while self.ending is None:
                assert await self.next(), "the stream ended before the shell"
            self.flow.conclude()
            self.send()
            assert await self.reader.read() == b""
        self.writer.close()
        return self.ending

    def cut(self) -> None:
        """Lose the stream, as with its link."""
        self.writer.transport.abort()
        self.flow.disconnected()
