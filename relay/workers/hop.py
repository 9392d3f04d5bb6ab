"""The hop: a call that came in at one worker, on the link that another holds; here the side where it came in.

Theory of operation. The entering worker has admitted the call. It opens a stream of the session between the two, sends
the numbers of the link and of the sender, and then what the node is to get; the call's exchange owns that stream as it
would own one of the link itself. The holding worker opens a stream of the link and splices the two: it reads nothing
of what passes, and gives credit on one side for what the other has taken. Its first byte back says what came of
opening: `OPENED`, after which the node's own bytes follow, or why not, which is the last byte. An end is passed on as
an end, a reset as a reset. The holding side is in `splice`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from relay.calls.request_stream import TOO_MANY_CALLS
from relay.links.reached import Caller, Reached
from trunkline.channel.errors import ChannelError
from trunkline.channel.limits import Limits
from trunkline.channel.link import Link, LinkStream
from trunkline.channel.outcomes import Outcome

HOP_HEAD: Final = struct.Struct("!QQ")
"""The number of the node's link at the other worker, and the sender's; see `Link.open`."""
OPENED: Final = b"\x00"
_REFUSALS: Final = {
    1: (Outcome.NO_LISTENER, "the node is just leaving this relay"),
    2: (Outcome.OVER_QUOTA, TOO_MANY_CALLS),
    3: (Outcome.LISTENER_SILENT, "the node did not take the call in time"),
}
GONE: Final = b"\x01"
FULL: Final = b"\x02"
SILENT: Final = b"\x03"

_UNBOUNDED: Final = 2**40


def hop_limits(*, window_bytes: int, budget_bytes: int) -> Limits:
    """Return the bounds of a session between two workers: all streams of all links, and no rates.

    What strangers may ask of a link is bounded there; here it has been bounded already, and adds up.
    """
    return Limits(
        max_streams=2**30,
        max_unacked_streams=2**30 + 1,
        initial_window_bytes=window_bytes,
        link_budget_bytes=budget_bytes,
        max_control_backlog_bytes=_UNBOUNDED,
        reset_burst=_UNBOUNDED,
        idle_frame_burst=_UNBOUNDED,
    )


class HeldElsewhere(Reached):
    """A node whose link another worker holds."""

    __slots__ = ("_link", "number", "worker")

    def __init__(
        self,
        link: Link,
        number: int,
        worker: int,
        *,
        node_id: str,
        workspace_id: str,
        node: str,
        workspace: str,
        spiffe_id: str,
    ) -> None:
        """Take the link between the workers, and the number that the node's link has at the other."""
        Reached.__init__(
            self, node_id=node_id, workspace_id=workspace_id, node=node, workspace=workspace, spiffe_id=spiffe_id
        )
        self.number = number
        self.worker = worker
        self._link = link

    def prefix_for(self, sender: int) -> bytes:
        """Return what tells the other worker which link is called, and by whom."""
        return HOP_HEAD.pack(self.number, sender)

    def call_when_openable(self, callback: Callable[[], None]) -> None:
        """Call back once when the link between the workers takes another stream."""
        self._link.call_when_openable(callback)

    def call_no_more(self, callback: Callable[[], None]) -> None:
        """Do not call back any more."""
        self._link.call_no_more(callback)

    def open(self, caller: Caller, sender: int) -> LinkStream:
        """Open a stream of the link between the workers; what the node's link says comes on it."""
        stream = self._link.open()
        stream.handler = HopAnswer(stream, caller)
        return stream


class HopAnswer:
    """The handler of a call's stream until the other worker has said what came of it; the caller's own comes after."""

    __slots__ = ("_caller", "_stream")

    def __init__(self, stream: LinkStream, caller: Caller) -> None:
        self._stream = stream
        self._caller = caller

    def data_received(self, data: bytes | memoryview) -> None:
        """Take the first byte away. It is never handed back: the stream's window is one byte smaller for it."""
        caller = self._caller
        status = data[0]
        if status == 0:
            self._stream.handler = caller
            if len(data) > 1:
                caller.data_received(data[1:])
        else:
            caller.fail(*_REFUSALS.get(status, _REFUSALS[1]))

    def end_received(self) -> None:
        """The other worker ended the stream without a word."""
        self._caller.end_received()

    def window_opened(self) -> None:
        """There is room for more of the request."""
        self._caller.window_opened()

    def stream_lost(self, error: ChannelError) -> None:
        """The other worker reset the stream, or is gone."""
        self._caller.stream_lost(error)
