"""The errors of the channel: one class for each way in which a link or a stream can fail, each with a code.

Who is at fault decides the class. `LocalProtocolError` is a mistake of the code that drives the channel: it is raised
at the call, and nothing has changed. `RemoteProtocolError` is a mistake of the peer: it ends the session. The other
classes are nobody's mistake, and expected.
"""

from enum import Enum
from typing import ClassVar


class ErrorCode(Enum):
    """What went wrong, as a stable word for metrics, logs and the table of outcomes."""

    LOCAL_PROTOCOL = "local_protocol"
    REMOTE_PROTOCOL = "remote_protocol"
    WINDOW_EXCEEDED = "window_exceeded"
    RATE_EXCEEDED = "rate_exceeded"
    LIMIT_EXCEEDED = "limit_exceeded"
    TOO_MANY_STREAMS = "too_many_streams"
    TOO_MANY_UNACKED = "too_many_unacked"
    BUDGET_EXCEEDED = "budget_exceeded"
    DRAINING = "draining"
    HANDSHAKE_FAILED = "handshake_failed"
    CONNECTION_LOST = "connection_lost"
    PEER_SILENT = "peer_silent"
    PEER_FAILED = "peer_failed"
    STREAM_RESET = "stream_reset"


class ChannelError(Exception):
    """A link or a stream failed; `code` says how, the message says it in one line."""

    default_code: ClassVar[ErrorCode]

    def __init__(self, message: str, code: ErrorCode | None = None) -> None:
        super().__init__(message)
        self.code = code if code is not None else self.default_code


class LocalProtocolError(ChannelError):
    """The owner asked for something that its own state forbids; nothing was changed."""

    default_code = ErrorCode.LOCAL_PROTOCOL


class RemoteProtocolError(ChannelError):
    """The peer broke the protocol; the session answers with a GoAway and ends."""

    default_code = ErrorCode.REMOTE_PROTOCOL


class LimitExceeded(ChannelError):  # noqa: N818 - an expected refusal, not a mistake
    """A bound of `Limits` (or of the peer) forbids it at present."""

    default_code = ErrorCode.LIMIT_EXCEEDED


class HandshakeFailed(ChannelError):  # noqa: N818
    """The link could not be set up: dialling, TLS, the proxy or the upgrade refused."""

    default_code = ErrorCode.HANDSHAKE_FAILED


class ConnectionLost(ChannelError):  # noqa: N818
    """The link under the streams is gone."""

    default_code = ErrorCode.CONNECTION_LOST


class StreamReset(ChannelError):  # noqa: N818
    """The peer cut this one stream, or it was cut here to save memory."""

    default_code = ErrorCode.STREAM_RESET
