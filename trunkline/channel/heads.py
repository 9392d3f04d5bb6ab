"""Heads of HTTP/1.1 requests and responses: strict parsing of whole heads, and their canonical form.

A head is cut at every CRLF, each line matched as a whole by the grammar, then its few fields with a meaning are read.
Nothing is repaired: what RFC 9112 does not produce is refused with a HeadError, and so is everything of which two
implementations might have different opinions (see docs/protocol.md, section 2, for the list). A head that was parsed
here and written again by `write_request_head` or `write_response_head` parses to the same head.

Most lines of a head have come before, whatever else differs from one to the next. Whoever parses many gives `Readers`
that remember (`trunkline.channel.memo`), and pays for the new lines only.
"""

import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final, NamedTuple

from trunkline.channel.fields import (
    BARE_LINE_END,
    FIELD_LINES,
    HEAD_END,
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    SINGLE,
    SINGLE_IN_RESPONSES,
    TOKEN_CHARACTER,
    VALUE_CHARACTER,
    Field,
    FieldLine,
    Framing,
    HeadError,
    connection_options,
    content_framing,
    is_protocol,
    read_field_line,
    watched_values,
    write_field_lines,
)
from trunkline.channel.targets import Authority, TargetForm, parse_authority, parse_target, same_authority

__all__ = [
    "Framing",
    "HeadBuffer",
    "HeadError",
    "Readers",
    "RequestHead",
    "ResponseHead",
    "parse_request_head",
    "parse_response_head",
    "status_line",
    "write_request_head",
    "write_response_head",
]

_REQUEST_LINE: Final = rb"(" + TOKEN_CHARACTER + rb"{1,32}+) ([\x21-\x7e]++) HTTP/1\.([01])"
_STATUS_LINE: Final = rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: " + VALUE_CHARACTER + rb"*+)?+"
_request_line: Final = re.compile(_REQUEST_LINE).fullmatch
_status_line: Final = re.compile(_STATUS_LINE).fullmatch
_REQUEST: Final = re.compile(_REQUEST_LINE + rb"\r\n" + FIELD_LINES + rb"\r\n")
_RESPONSE: Final = re.compile(_STATUS_LINE + rb"\r\n" + FIELD_LINES + rb"\r\n")
_OTHER_VERSION: Final = re.compile(rb"[^ \r\n]++ [^ \r\n]++ HTTP/(?!1\.[01]\r)[0-9](?:\.[0-9])?+\r\n")
_NO_CONTENT: Final = None, (Framing.LENGTH, 0)
_REASONS: Final = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
_STATUS_LINES: Final = [b"HTTP/1.1 %d %b\r\n" % (status, _REASONS.get(status, b"")) for status in range(600)]


class Readers(NamedTuple):
    """What reads the parts of a head; each is a pure function, or a memo of it."""

    line: Callable[[bytes], FieldLine] = read_field_line
    authority: Callable[[bytes], Authority] = parse_authority


_PLAIN: Final = Readers()


class RequestHead:
    """A request head that passed every rule.

    `host` is the lower-case host that the request is for and `port` the port written with it (from the target where
    it has one, else from Host; None and None in an HTTP/1.0 request without either). `upgrade` is the protocol asked
    for by a valid Upgrade, else None; `names_upgrade` is true for a faulty or ignored one too.
    """

    __slots__ = (
        "connection", "content_length", "expect_continue", "framing", "host", "keep_alive", "lines", "method",
        "minor_version", "names_upgrade", "port", "target", "target_form", "target_origin", "upgrade", "watched",
    )  # fmt: skip

    method: bytes
    target: bytes
    target_form: TargetForm
    target_origin: bytes
    minor_version: int
    lines: list[FieldLine]
    watched: dict[bytes, bytes]
    host: bytes | None
    port: int | None
    framing: Framing
    content_length: int
    connection: frozenset[bytes]
    keep_alive: bool
    expect_continue: bool
    upgrade: bytes | None
    names_upgrade: bool

    @property
    def fields(self) -> list[Field]:
        """All fields, in their order."""
        return [line.field for line in self.lines]

    def get(self, name: bytes) -> bytes | None:
        """The value of the first field with this lower-case name."""
        return _first(self.lines, name)


class ResponseHead:
    """A response head that passed every rule; `framing` already takes the request's method into account."""

    __slots__ = (
        "connection", "content_length", "framing", "keep_alive", "lines", "minor_version", "status", "upgrade",
        "watched",
    )  # fmt: skip

    status: int
    minor_version: int
    lines: list[FieldLine]
    watched: dict[bytes, bytes]
    framing: Framing
    content_length: int | None
    connection: frozenset[bytes]
    keep_alive: bool
    upgrade: bytes | None

    @property
    def reason(self) -> bytes:
        """The registered reason phrase of the status, empty when there is none; the peer's own words are dropped."""
        return _REASONS.get(self.status, b"")

    @property
    def fields(self) -> list[Field]:
        """All fields, in their order."""
        return [line.field for line in self.lines]

    def get(self, name: bytes) -> bytes | None:
        """The value of the first field with this lower-case name."""
        return _first(self.lines, name)


def _first(lines: list[FieldLine], name: bytes) -> bytes | None:
    return next((line.field[1] for line in lines if line.name == name), None)


def _read_lines(raw: bytes, read_line: Callable[[bytes], FieldLine]) -> tuple[bytes, list[FieldLine]]:
    """The start line of a whole head, unread, and its field lines; raises HeadError."""
    if len(raw) > MAX_HEAD_BYTES or not raw.endswith(HEAD_END):
        raise _refused_head(raw)
    start, *texts = raw[: -len(HEAD_END)].split(b"\r\n")
    try:
        lines = [read_line(text) for text in texts]
    except HeadError:
        raise _refused_head(raw) from None
    if len(lines) > MAX_FIELDS:
        raise HeadError("too_many_fields", f"more than {MAX_FIELDS} fields", 431)
    return start, lines


def parse_request_head(raw: bytes, readers: Readers = _PLAIN) -> RequestHead:
    """Parses a whole request head, its empty line included; raises HeadError (400, 414, 417, 431, 501, 505)."""
    start, lines = _read_lines(raw, readers.line)
    match = _request_line(start)
    if match is None:
        raise _refused_head(raw)
    head = RequestHead()
    head.method, head.target, minor = match.groups()
    head.minor_version = 1 if minor == b"1" else 0
    head.lines = lines
    head.watched = watched_values(lines, SINGLE)
    _set_target(head, readers)
    _set_request_framing(head)
    _set_request_connection(head)
    return head


def _set_target(head: RequestHead, readers: Readers) -> None:
    head.target_form, authority, head.target_origin = parse_target(head.method, head.target)
    host = head.watched.get(b"host")
    if host is None and head.minor_version == 1:
        raise HeadError("no_host", "an HTTP/1.1 request without Host")
    if host is not None:
        named = readers.authority(host)
        if authority is not None and not _agrees(named, authority, head.target_form):
            raise HeadError("host_disagrees", "Host and the request target name different authorities")
        authority = authority or named
    head.host, head.port = authority or (None, None)


def _agrees(named: Authority, authority: Authority, form: TargetForm) -> bool:
    """Whether Host agrees with the target; beside a CONNECT's host:port, Host may leave the port out."""
    if form is TargetForm.AUTHORITY and named.port is None:
        return named.host == authority.host
    return same_authority(named, authority)


def _set_request_framing(head: RequestHead) -> None:
    framing = content_framing(head.watched, minor_version=head.minor_version)
    if head.method == b"CONNECT":
        if framing not in _NO_CONTENT:
            raise HeadError("content_in_connect", "CONNECT cannot have content")
        framing = (Framing.TUNNEL, 0)
    head.framing, head.content_length = framing or (Framing.NONE, 0)
    expect = head.watched.get(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        raise HeadError("unknown_expectation", "an expectation other than 100-continue", 417)
    head.expect_continue = expect is not None and _has_content(head) and head.minor_version == 1


def _has_content(head: RequestHead) -> bool:
    return head.framing is Framing.CHUNKED or head.content_length > 0


def _set_request_connection(head: RequestHead) -> None:
    watched = head.watched
    head.connection = options = connection_options(watched.get(b"connection"))
    head.keep_alive = head.minor_version == 1 and b"close" not in options
    upgrade = watched.get(b"upgrade")
    head.names_upgrade = upgrade is not None
    head.upgrade = None
    if upgrade is None or b"upgrade" not in options or head.minor_version == 0:
        return
    possible = head.framing is not Framing.TUNNEL and not _has_content(head)
    # One protocol only; HTTP/2 would carry requests that nobody here has looked at.
    if possible and is_protocol(upgrade) and upgrade.lower().partition(b"/")[0] not in (b"h2c", b"http"):
        head.upgrade = upgrade


def parse_response_head(
    raw: bytes, *, request_method: bytes, upgrade: bytes | None = None, readers: Readers = _PLAIN
) -> ResponseHead:
    """Parses a whole response head, its empty line included; raises HeadError.

    `request_method` and `upgrade` (the protocol that the request asked for) decide what the response may be: 101 is
    accepted only with exactly that protocol, and a 2xx to CONNECT has no content.
    """
    start, lines = _read_lines(raw, readers.line)
    match = _status_line(start)
    if match is None:
        raise _refused_head(raw)
    head = ResponseHead()
    minor, status = match.groups()
    head.minor_version = 1 if minor == b"1" else 0
    head.status = int(status)
    head.lines = lines
    head.watched = watched_values(lines, SINGLE_IN_RESPONSES)
    head.connection = connection_options(head.watched.get(b"connection"))
    head.keep_alive = head.minor_version == 1 and b"close" not in head.connection
    head.upgrade = None
    _set_response_framing(head, request_method)
    if head.status == 101:
        _set_accepted_upgrade(head, upgrade)
    return head


def _set_response_framing(head: ResponseHead, request_method: bytes) -> None:
    """Applies RFC 9112 section 6.3, with content where there can be none refused instead of ignored."""
    framing = content_framing(head.watched, minor_version=head.minor_version)
    status = head.status
    head.content_length = None
    if framing is not None and framing[0] is Framing.LENGTH:
        head.content_length = framing[1]
    tunnel = status == 101 or (request_method == b"CONNECT" and 200 <= status < 300)
    if tunnel or status < 200 or status == 204:
        if framing not in _NO_CONTENT:
            raise HeadError("content_not_allowed", f"a {status} response that announces content")
        head.content_length = None
        head.framing = Framing.TUNNEL if tunnel else Framing.NONE
    elif request_method == b"HEAD" or status == 304:
        head.framing = Framing.NONE
    else:
        head.framing = Framing.CLOSE if framing is None else framing[0]


def _set_accepted_upgrade(head: ResponseHead, asked: bytes | None) -> None:
    answered = head.watched.get(b"upgrade")
    if asked is None or answered is None or answered.lower() != asked.lower() or b"upgrade" not in head.connection:
        raise HeadError("unasked_upgrade", "a 101 response that does not answer an Upgrade")
    head.upgrade = answered


def _refused_head(raw: bytes) -> HeadError:
    """Names what is wrong with a head that the grammar did not match."""
    if len(raw) > MAX_HEAD_BYTES:
        return HeadError("head_too_large", f"the head has more than {MAX_HEAD_BYTES} bytes", 431)
    if not BARE_LINE_END.search(raw) and _OTHER_VERSION.match(raw):
        return HeadError("unknown_version", "only HTTP/1.1 and HTTP/1.0 are spoken here", 505)
    return HeadError("malformed_head", "the head is malformed")


def write_request_head(method: bytes, target: bytes, fields: Sequence[Field]) -> bytes:
    """Writes an HTTP/1.1 request head; raises ValueError for anything that the grammar would not take back."""
    raw = b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, write_field_lines(fields))
    return _checked(_REQUEST, raw, 1 + len(fields))


def status_line(status: int) -> bytes:
    """The canonical status line: HTTP/1.1, the status, the registered reason phrase."""
    return _STATUS_LINES[status]


def write_response_head(status: int, fields: Sequence[Field]) -> bytes:
    """Writes an HTTP/1.1 response head; raises ValueError for anything that the grammar would not take back."""
    raw = b"%b%b\r\n" % (status_line(status), write_field_lines(fields))
    return _checked(_RESPONSE, raw, 1 + len(fields))


def _checked(grammar: re.Pattern[bytes], raw: bytes, lines: int) -> bytes:
    """Returns `raw`; the count of lines tells whether a value has broken out of its own."""
    if not grammar.fullmatch(raw) or raw.count(b"\r\n") != lines + 1:
        raise ValueError("the head would be malformed")
    return raw


class HeadBuffer:
    """Collects bytes until a head is complete, in bounded memory, and refuses early what can no longer become one.

    The same bytes give the same result however they are split. `leftover` holds what came behind the head.
    """

    __slots__ = ("_buffer", "_scanned", "leftover")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self.leftover = b""

    def __len__(self) -> int:
        return len(self._buffer)

    def receive_data(self, data: bytes | memoryview) -> bytes | None:
        """Takes bytes, returns the head once its empty line is there; raises HeadError (400, 431)."""
        buffer = self._buffer
        buffer += data
        if buffer and not 0x21 <= buffer[0] <= 0x7E:
            raise HeadError("malformed_head", "the head does not begin with a token")
        end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3), MAX_HEAD_BYTES)
        checked_end = min(len(buffer), MAX_HEAD_BYTES) if end < 0 else end + 2
        if BARE_LINE_END.search(buffer, max(0, self._scanned - 1), checked_end):
            raise HeadError("malformed_head", "a line ends in a bare CR or LF")
        if end >= 0:
            head, self.leftover = bytes(buffer[: end + 4]), bytes(buffer[end + 4 :])
            buffer.clear()
            self._scanned = 0
            return head
        self._scanned = len(buffer)
        if self._scanned >= MAX_HEAD_BYTES:
            raise HeadError("head_too_large", f"the head has more than {MAX_HEAD_BYTES} bytes", 431)
        return None
