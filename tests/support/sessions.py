"""Two sessions face to face, and what their events say, for tests without a loop."""

from trunkline.channel.events import (
    DataReceived,
    Event,
    GoAwayReceived,
    PongReceived,
    SessionFailed,
    StreamEnded,
    StreamOpened,
    StreamResetReceived,
    WindowOpened,
)
from trunkline.channel.frames import encode_header
from trunkline.channel.limits import CreditBudget, Limits
from trunkline.channel.session import Role, Session
from trunkline.channel.streams import Stream

DATA, WINDOW_UPDATE, PING, GO_AWAY = 0, 1, 2, 3
SYN, ACK, FIN, RST = 1, 2, 4, 8


def frame(kind: int, flags: int, stream_id: int, length: int | None = None, payload: bytes = b"") -> bytes:
    """A frame as a peer may send it, right or wrong."""
    return encode_header(kind << 16 | flags, stream_id, len(payload) if length is None else length) + payload


def new_session(
    role: Role = Role.SERVER,
    *,
    limits: Limits | None = None,
    now: float = 0.0,
    compact: bool = False,
    budget: CreditBudget | None = None,
    send_window_bytes: int = 262144,
    keepalive_seconds: float | None = None,
) -> Session[Stream]:
    return Session(
        role,
        limits=limits or Limits(),
        now=now,
        stream_type=Stream,
        compact=compact,
        budget=budget,
        send_window_bytes=send_window_bytes,
        keepalive_seconds=keepalive_seconds,
    )


def sent(session: Session[Stream]) -> bytes:
    """What the session wants to send, as one string."""
    return b"".join(session.data_to_send())


def transcript(events: list[Event[Stream]]) -> list[tuple[object, ...]]:
    """Events as tuples, pieces of data of one stream joined, so that cuts do not show."""
    lines: list[tuple[object, ...]] = []
    for event in events:
        line = _line(event)
        last = lines[-1] if lines else ()
        if line[0] == "data" and last[:2] == ("data", line[1]) and not last[3]:
            lines[-1] = ("data", line[1], last[2] + line[2], line[3])  # type: ignore[operator]
        else:
            lines.append(line)
    return lines


def _line(event: Event[Stream]) -> tuple[object, ...]:
    match event:
        case DataReceived():
            return ("data", event.stream.id, bytes(event.data), event.ended)
        case StreamOpened():
            return ("opened", event.stream.id)
        case StreamEnded():
            return ("ended", event.stream.id)
        case StreamResetReceived():
            return ("reset", event.stream.id)
        case WindowOpened():
            return ("window", event.stream.id)
        case PongReceived():
            return ("pong", event.ping_id)
        case GoAwayReceived():
            return ("go away", event.code)
        case SessionFailed():
            return ("failed", event.error.code, sorted(stream.id for stream in event.streams))


def accepted(session: Session[Stream], stream_id: int = 1, *, now: float = 0.0) -> Stream:
    """Have the peer open a stream, acknowledged."""
    session.receive_data(frame(WINDOW_UPDATE, SYN, stream_id), now)
    session.handle_deadline(now + 1)
    sent(session)
    return session.streams[stream_id]


def opened(session: Session[Stream]) -> Stream:
    """Open a stream that the peer acknowledges."""
    stream = session.open_stream()
    sent(session)
    session.receive_data(frame(WINDOW_UPDATE, ACK, stream.id), 0.0)
    return stream
