"""What a session tells its owner: one small class for each event.

They are made once per frame, so they are plain classes with slots; treat them as values and do not change them. In the
order of the list that `receive_data` returns, the events of one stream are `StreamOpened` (only for streams that the
peer opened), then `DataReceived` and `WindowOpened`, then at most one `StreamEnded` and at most one
`StreamResetReceived`, which is the last.
"""

from typing import Generic

from trunkline.channel.errors import ChannelError
from trunkline.channel.sending import S


class StreamOpened(Generic[S]):
    """The peer opened a stream."""

    __slots__ = ("stream",)

    def __init__(self, stream: S) -> None:
        self.stream = stream


class DataReceived(Generic[S]):
    """Bytes of a stream, in order; `ended` says that the peer sends no more (then no `StreamEnded` follows)."""

    __slots__ = ("data", "ended", "stream")

    def __init__(self, stream: S, data: bytes | memoryview, ended: bool) -> None:
        self.stream = stream
        self.data = data
        self.ended = ended


class StreamEnded(Generic[S]):
    """The peer sends no more on this stream (FIN); sending to it goes on."""

    __slots__ = ("stream",)

    def __init__(self, stream: S) -> None:
        self.stream = stream


class StreamResetReceived(Generic[S]):
    """The peer cut this stream (RST); it is forgotten."""

    __slots__ = ("stream",)

    def __init__(self, stream: S) -> None:
        self.stream = stream


class WindowOpened(Generic[S]):
    """The stream's send window was empty and is so no more."""

    __slots__ = ("stream",)

    def __init__(self, stream: S) -> None:
        self.stream = stream


class PongReceived:
    """A ping came back after `rtt_seconds`."""

    __slots__ = ("ping_id", "rtt_seconds")

    def __init__(self, ping_id: int, rtt_seconds: float) -> None:
        self.ping_id = ping_id
        self.rtt_seconds = rtt_seconds


class GoAwayReceived:
    """The peer takes no new streams; `code` as on the wire. If it is not 0, `SessionFailed` follows."""

    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        self.code = code


class SessionFailed(Generic[S]):
    """The session is over: send what `data_to_send` gives, then close. `streams` are those that were still open."""

    __slots__ = ("error", "streams")

    def __init__(self, error: ChannelError, streams: list[S]) -> None:
        self.error = error
        self.streams = streams


Event = (
    StreamOpened[S]
    | DataReceived[S]
    | StreamEnded[S]
    | StreamResetReceived[S]
    | WindowOpened[S]
    | PongReceived
    | GoAwayReceived
    | SessionFailed[S]
)
