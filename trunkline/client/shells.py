"""A shell on a node, held from here: opened once, attached again whenever the way to the node was cut.

Theory of operation. `run` opens the session and then attaches, as often as needed, until the ending is here. Where the
answer to the opening was lost, the shell may be there, and its program have run: it is not asked for again, which could
run that a second time at an agent that was started anew, but attached to. Where there is none, that is told. What is
written while there is no connection waits in the flow, and goes out behind the next ATTACH; so does what the node had
sent and this end had not received. Time is the only bound: after `AWAY_SECONDS` without a connection the node has given
the session up, and so does this end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from trunkline.channel.errors import RemoteProtocolError
from trunkline.channel.shell_flow import Attached, Bytes, RoomMade, ShellEnding, ShellEvent, ShellFlow, ShellRole
from trunkline.channel.shell_frames import UPGRADE_PROTOCOL, ShellEndingKind
from trunkline.client.api_transport import path_of
from trunkline.client.errors import (
    ApiError,
    BadResponse,
    CallInterrupted,
    NodeSilent,
    NodeUnreachable,
    PermissionRefused,
    TrunklineError,
    Unauthenticated,
)
from trunkline.client.node import SHELL, Node
from trunkline.client.node_response import read_error
from trunkline.runtime.clock import Clock, SystemClock

AWAY_SECONDS = 60.0
LEAVING_SECONDS = 5.0
"""How long a node keeps a shell whose caller is away."""
RETRY_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Pauses between attempts to attach; the last goes on."""
ATTEMPT_SECONDS = 10.0
MOST_UNAUTHENTICATED = 3
"""Attempts in a row, each with a new token, that are refused for it: a relay may learn of a key a little late."""
_PIECE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class ShellRequest:
    """What to open: without `argv` the login shell of the user that the node's owner allows; see `docs/api.md`."""

    argv: tuple[str, ...] = ()
    terminal: bool = True
    term: str | None = None
    rows: int = 24
    columns: int = 80
    user: str | None = None

    def document(self) -> dict[str, Any]:
        """The body of the request."""
        document: dict[str, Any] = {"terminal": self.terminal}
        document |= {"argv": list(self.argv)} if self.argv else {}
        document |= {"rows": self.rows, "columns": self.columns} if self.terminal else {}
        document |= {"term": self.term} if self.term is not None else {}
        return document | ({"user": self.user} if self.user is not None else {})


@dataclass(frozen=True, slots=True)
class ShellListener:
    """What is told of a shell. `show` gets the output, and is awaited before more is taken."""

    show: Callable[[bytes, bool], Awaitable[None]]
    room_made: Callable[[], None] = field(default=lambda: None)
    attached: Callable[[], None] = field(default=lambda: None)
    cut: Callable[[TrunklineError], None] = field(default=lambda error: None)


class RemoteShell:
    """One shell; the methods but `run` are called at any time, on the same event loop."""

    def __init__(
        self, node: Node, request: ShellRequest, listener: ShellListener, *, clock: Clock | None = None
    ) -> None:
        self._node = node
        self._request = request
        self._listener = listener
        self._clock = clock or SystemClock()
        self.shell_id = secrets.token_hex(16)
        self._flow = ShellFlow(ShellRole.CALLER)
        self._writer: asyncio.StreamWriter | None = None
        self._ending: ShellEnding | None = None
        self._size: tuple[int, int] | None = None
        self._asked = False
        self._unanswered: TrunklineError | None = None
        self._leaving = False
        self._left = asyncio.Event()

    async def run(self) -> ShellEnding:
        """Open the shell, and be its caller until it has ended, or was left with `leave`.

        Raises:
            TrunklineError: it cannot be opened, or could not be reached again in time; then the node ends it.
        """
        running = asyncio.create_task(self._live())
        leaving = asyncio.create_task(self._left.wait())
        try:
            await asyncio.wait([running, leaving], return_when=asyncio.FIRST_COMPLETED)
            return await running if running.done() else ShellEnding(ShellEndingKind.ENDED, 0, "left")
        finally:
            leaving.cancel()
            await self._stop(running)

    @property
    def room_bytes(self) -> int:
        """How much may be written now."""
        return self._flow.room_bytes

    def write(self, content: bytes) -> None:
        """Type; at most `room_bytes`."""
        self._flow.write(content)
        self._send()

    def end_input(self) -> None:
        """Say that nothing more will be typed."""
        self._flow.end_input()
        self._send()

    def resize(self, rows: int, columns: int) -> None:
        """Tell the size of the terminal, now and in every later connection."""
        self._size = rows, columns
        self._flow.resize(rows, columns)
        self._send()

    def signal(self, name: str) -> None:
        """Send a signal to the shell's foreground; lost if there is no connection now."""
        self._flow.signal(name)
        self._send()

    def leave(self) -> None:
        """Hang up: the node ends the shell now, or within a minute if it cannot be told.

        Its last word is waited for, for `LEAVING_SECONDS`: not for a node that does not answer, nor for a listener that
        takes no more of what is shown. The second time it is not.
        """
        if self._leaving or not self._flow.attached:
            self._left.set()
        else:
            asyncio.get_running_loop().call_later(LEAVING_SECONDS, self._left.set)
        self._leaving = True
        self._flow.hang_up()
        self._send()

    async def _stop(self, running: asyncio.Task[ShellEnding]) -> None:
        """End the caller's side; a shell that has not ended is hung up on, if it can be told."""
        if self._writer is not None:
            self._flow.hang_up()
            self._send()
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        self._drop_connection()

    async def _live(self) -> ShellEnding:
        attempts, unauthenticated, away_since = 0, 0, self._clock.monotonic()
        while True:
            try:
                await self._reach()
                attempts, unauthenticated, away_since = 0, 0, self._clock.monotonic()
                await self._serve()
            except (ApiError, BadResponse, PermissionRefused) as error:
                # The node has answered, or the relay where the node is locked, and will say the same again.
                raise self._told(error) from None
            except TrunklineError as error:
                if not self._asked:
                    raise
                failure = error
            if self._ending is not None:
                return self._ending
            unauthenticated = unauthenticated + 1 if isinstance(failure, Unauthenticated) else 0
            if unauthenticated == MOST_UNAUTHENTICATED:
                raise failure
            if not attempts:
                away_since = self._clock.monotonic()
                self._listener.cut(failure)
            await asyncio.sleep(RETRY_SECONDS[min(attempts, len(RETRY_SECONDS) - 1)])
            attempts += 1
            if self._clock.monotonic() - away_since > AWAY_SECONDS:
                raise CallInterrupted(f"the node could not be reached again within {AWAY_SECONDS:g} s: {failure}")

    async def _reach(self) -> None:
        """Ask for the shell, once, and attach to it."""
        if not self._asked:
            await self._ask()
        await self._attach()
        self._unanswered = None

    async def _ask(self) -> None:
        try:
            await self._open()
        except TrunklineError as error:
            self._asked = _perhaps_arrived(error)
            self._unanswered = error if self._asked else None
            raise
        self._asked = True

    def _told(self, error: TrunklineError) -> TrunklineError:
        """What is said in the end: of a shell that nobody has seen, that it is not known whether it ever was."""
        if self._unanswered is None or not isinstance(error, ApiError) or error.status != HTTPStatus.NOT_FOUND:
            return error
        doubt = "it was not opened, or has run and ended meanwhile"
        return CallInterrupted(f"the node has no such shell: {doubt}: {self._unanswered}")

    async def _open(self) -> None:
        body = json.dumps(self._request.document()).encode()
        path = path_of("v1", "shells", self.shell_id)
        response = await self._node.request("PUT", path, scopes=(SHELL,), body=body)
        if response.status >= 300:
            raise await read_error(response, "the node answered")
        await response.read()

    async def _attach(self) -> None:
        path = path_of("v1", "shells", self.shell_id)
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                self._reader, self._writer = await self._node.open_upgraded(path, UPGRADE_PROTOCOL, scopes=(SHELL,))
        except TimeoutError:
            raise CallInterrupted(f"no answer within {ATTEMPT_SECONDS:g} s", retry=True) from None
        self._flow.connected()
        self._send()

    async def _serve(self) -> None:
        """Take what comes until the connection ends.

        Raises:
            CallInterrupted: always, but for an ending.
        """
        try:
            while data := await self._read():
                for event in self._flow.receive_data(data):
                    await self._take(event)
                self._send()
                if self._ending is not None:
                    await self._conclude()
                    self._drop_connection()
                    return
        except RemoteProtocolError as error:
            raise BadResponse(f"the node does not keep to the protocol of shells: {error}") from None
        except CallInterrupted:
            self._drop_connection()
            raise
        self._drop_connection()
        raise CallInterrupted("the connection was closed")

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(_PIECE_BYTES)
        except OSError as error:
            raise CallInterrupted(f"the connection was cut: {error}") from None

    async def _take(self, event: ShellEvent) -> None:
        if isinstance(event, Bytes):
            self._send()
            await self._listener.show(event.content, event.is_error)
            self._flow.taken(len(event.content))
            self._send()
        elif isinstance(event, ShellEnding):
            self._ending = event
        elif isinstance(event, Attached):
            if self._size is not None:
                self._flow.resize(*self._size)
            if self._leaving:
                self._flow.hang_up()
            self._listener.attached()
        elif isinstance(event, RoomMade):
            self._listener.room_made()

    async def _conclude(self) -> None:
        """Let the node forget the shell; if that does not reach it, it does so by itself."""
        self._flow.conclude()
        self._send()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._reader.read(1)

    def _send(self) -> None:
        if self._writer is not None:
            data = self._flow.data_to_send()
            if data:
                self._writer.write(data)

    def _drop_connection(self) -> None:
        writer, self._writer = self._writer, None
        self._flow.disconnected()
        if writer is not None:
            writer.close()


def _perhaps_arrived(error: TrunklineError) -> bool:
    """Whether the node may have opened the shell, though its answer has not come."""
    unheard = isinstance(error, (CallInterrupted, NodeSilent, NodeUnreachable))
    return unheard and error.retry and not error.never_sent
