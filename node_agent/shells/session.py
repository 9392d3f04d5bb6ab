"""One session: a shell, and its caller, who may be away for a while.

Theory of operation.

    DETACHED ──attach──▶ ATTACHED ──stream lost──▶ DETACHED ──after `away_seconds`──▶ hung up
        └──────────┬─────────┘
                   ▼ nothing is left of the shell, and its output has been read
                ENDED ──the caller has the ending, or is away for too long──▶ forgotten

While the caller is away the output is kept up to the flow's window; then the shell is not read, and stops by itself. A
newer stream takes the place of an older one, since the older may be one of which only this end does not know that it is
dead. Everything is bounded in time: being away, being idle (no byte either way), and the whole.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from node_agent.shells.causes import EndCause
from node_agent.shells.opening import Opening
from node_agent.shells.program import Program
from node_agent.shells.pumps import InputPump, OutputPump
from trunkline.channel.errors import RemoteProtocolError
from trunkline.channel.shell_flow import (
    Bytes,
    Concluded,
    HungUp,
    InputEnded,
    Resized,
    RoomMade,
    ShellEnding,
    ShellEvent,
    ShellFlow,
    ShellRole,
    Signalled,
)
from trunkline.channel.shell_frames import ShellEndingKind

AWAY_SECONDS = 60.0
"""How long a shell waits for its caller to come back."""


@dataclass(frozen=True, slots=True)
class SessionBounds:
    """Bounds in time, in seconds."""

    away_seconds: float
    idle_seconds: float
    longest_seconds: float


class SessionStream(Protocol):
    """The stream of a caller who is there."""

    def write(self, data: bytes) -> None:
        """Send bytes."""
        ...

    def finish(self) -> None:
        """End the stream; nothing follows."""
        ...

    def abort(self) -> None:
        """Cut it; nothing more is heard of it."""
        ...


class SessionOwner(Protocol):
    """What is told of a session."""

    def session_ended(self, session: "ShellSession", cause: EndCause) -> None:
        """Nothing is left of the shell."""
        ...

    def session_over(self, session: "ShellSession") -> None:
        """It can be forgotten."""
        ...


class ShellSession:
    """The state of one session; everything is called on the event loop."""

    is_stream = True

    def __init__(
        self,
        opening: Opening,
        program: Program,
        bounds: SessionBounds,
        owner: SessionOwner,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.opening = opening
        self._program = program
        self._bounds = bounds
        self._owner = owner
        self._loop = loop
        self._flow = ShellFlow(ShellRole.AGENT)
        self._stream: SessionStream | None = None
        self._cause: EndCause | None = None
        self._status: int | None = None
        self._gone = False
        self._over = False
        ends, terminal = program.ends, opening.terminal
        self._input = InputPump(ends.input, self._taken, terminal=terminal, loop=loop)
        self._outputs = [
            OutputPump(descriptor, lambda: self._flow.room_bytes, partial(self._put_out, bool(index)), loop=loop)
            for index, descriptor in enumerate(ends.outputs)
        ]
        self._touched = loop.time()
        self._away = loop.call_later(bounds.away_seconds, self._caller_away)
        self._idle = loop.call_later(bounds.idle_seconds, self._look_for_idleness)
        self._longest = loop.call_later(bounds.longest_seconds, self.end, EndCause.TOO_LONG)
        program.status.add_done_callback(self._program_gone)
        self._read_on()

    # What is there

    @property
    def input_bytes(self) -> int:
        """How many bytes came from the caller."""
        return self._flow.received_bytes

    @property
    def output_bytes(self) -> int:
        """How many bytes the shell has shown."""
        return self._flow.written_bytes

    @property
    def gone(self) -> asyncio.Task[int | None]:
        """Done once nothing is left of the shell."""
        return self._program.status

    # What the owner does

    def attach(self, stream: SessionStream) -> None:
        """Go on with the caller on this stream; another that there was is cut."""
        if self._stream is not None:
            self._stream.abort()
        self._stream = stream
        self._touch()
        self._flow.connected()
        self._away.cancel()
        if self._over:
            self._detached()
        self._send()

    def end(self, cause: EndCause) -> None:
        """Hang up, for this reason."""
        if self._cause is None:
            self._cause = cause
            self._program.hang_up()

    def cut(self) -> None:
        """End it, since what its caller stands on was revoked; the caller hears no more."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abort()
        self._detached()
        self.end(EndCause.REVOKED)

    # What the stream brings

    def received(self, stream: SessionStream, data: bytes) -> None:
        """Take bytes of a caller."""
        if stream is not self._stream:
            return
        try:
            events = self._flow.receive_data(data)
        except RemoteProtocolError:
            stream.abort()
            self.lost(stream)
            return
        for event in events:
            self._take(event)
        self._send()

    def lost(self, stream: SessionStream) -> None:
        """The stream is gone; the caller may come back."""
        if stream is self._stream:
            self._stream = None
            self._detached()

    def _take(self, event: ShellEvent) -> None:
        if isinstance(event, Bytes):
            self._touch()
            self._input.write(event.content)
        elif isinstance(event, RoomMade):
            self._read_on()
        elif isinstance(event, Resized) and not self._input.ended:
            self._program.resize(event.rows, event.columns)
        elif isinstance(event, Signalled):
            self._program.signal(event.name, foreground=not self._input.ended)
        elif isinstance(event, InputEnded):
            self._input.end()
        elif isinstance(event, HungUp):
            self.end(EndCause.HUNG_UP)
        elif isinstance(event, Concluded) and self._over:
            self._forget()

    # What the shell does

    def _put_out(self, is_error: bool, content: bytes) -> None:
        if content:
            self._touch()
            self._flow.write(content, is_error=is_error)
        elif self.opening.terminal:
            self._input.close()  # it is the same descriptor: its number is given to the next that is opened
        self._end_if_all_is_read()
        self._send()

    def _taken(self, size_bytes: int) -> None:
        self._flow.taken(size_bytes)
        self._send()

    def _program_gone(self, done: asyncio.Task[int | None]) -> None:
        self._gone = True
        self._status = None if done.cancelled() else done.result()
        self._input.close()
        for output in self._outputs:
            if self._cause is not None and self._stream is None:
                output.close()  # it is not waited for that somebody comes and makes room
            else:
                output.expect_no_more()
        self._end_if_all_is_read()

    def _end_if_all_is_read(self) -> None:
        if self._over or not self._gone or not all(output.ended for output in self._outputs):
            return
        self._over = True
        self._idle.cancel()
        self._longest.cancel()
        cause = self._cause or EndCause.EXITED
        self._flow.end(_ending(cause, self._status))
        self._owner.session_ended(self, cause)
        if self._stream is not None:  # whoever is there has as long to take the rest as one who is away
            self._detached()
        self._send()

    # Time

    def _touch(self) -> None:
        self._touched = self._loop.time()

    def _detached(self) -> None:
        self._flow_off()
        self._away.cancel()
        self._away = self._loop.call_later(self._bounds.away_seconds, self._caller_away)

    def _flow_off(self) -> None:
        if self._stream is None:
            self._flow.disconnected()

    def _caller_away(self) -> None:
        if self._gone:
            for output in self._outputs:
                output.close()
            self._end_if_all_is_read()
            self._forget()
        else:
            self.end(EndCause.ABANDONED)
            self._away = self._loop.call_later(self._bounds.away_seconds, self._caller_away)

    def _look_for_idleness(self) -> None:
        left = self._touched + self._bounds.idle_seconds - self._loop.time()
        if left <= 0:
            self.end(EndCause.IDLE)
        else:
            self._idle = self._loop.call_later(left, self._look_for_idleness)

    # The rest

    def _read_on(self) -> None:
        for output in self._outputs:
            output.go_on()

    def _send(self) -> None:
        if self._stream is not None:
            data = self._flow.data_to_send()
            if data:
                self._stream.write(data)

    def _forget(self) -> None:
        self._away.cancel()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.finish()
        self._owner.session_over(self)


def _ending(cause: EndCause, status: int | None) -> ShellEnding:
    if cause is not EndCause.EXITED:
        return ShellEnding(ShellEndingKind.ENDED, 0, cause.reason)
    if status is None:
        return ShellEnding(ShellEndingKind.ENDED, 0, "the process that watched over it was killed")
    if status < 0:
        return ShellEnding(ShellEndingKind.KILLED, -status)
    return ShellEnding(ShellEndingKind.EXITED, status)
