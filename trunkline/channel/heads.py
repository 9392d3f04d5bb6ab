"""Heads of HTTP/1.1 requests and responses: strict parsing of whole heads, and their canonical form.

A head is matched as a whole by one regular expression, then its few meaningful fields are read. Nothing is repaired:
what the grammar of RFC 9112 does not produce is refused with a HeadError, and so is everything of which two
implementations might have different opinions (see docs/protocol.md, section 2, for the list). A head that was parsed
here and written again by `write_request_head` or `write_response_head` parses to the same head.
"""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from trunkline.channel.fields import (
    BARE_LINE_END,
    FIELD_LINES,
    MAX_HEAD_BYTES,
    TOKEN_CHARACTER,
    VALUE_CHARACTER,
    Field,
    Framing,
    HeadError,
    connection_options,
    content_framing,
    index_fields,
    is_token,
    parse_field_lines,
    write_field_lines,
)
from trunkline.channel.targets import Authority, TargetForm, parse_authority, parse_target, same_authority

__all__ = [
    "Framing",
    "HeadBuffer",
    "HeadError",
    "RequestHead",
    "ResponseHead",
    "parse_request_head",
    "parse_response_head",
    "status_line",
    "write_request_head",
    "write_response_head",
]

_REQUEST: Final = re.compile(
    rb"(" + TOKEN_CHARACTER + rb"{1,32}+) ([\x21-\x7e]++) HTTP/1\.([01])\r\n(" + FIELD_LINES + rb")\r\n"
)
_RESPONSE: Final = re.compile(
    rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: " + VALUE_CHARACTER + rb"*+)?+\r\n(" + FIELD_LINES + rb")\r\n"
)
_OTHER_VERSION: Final = re.compile(rb"[^ \r\n]++ [^ \r\n]++ HTTP/(?!1\.[01]\r)[0-9](?:\.[0-9])?+\r\n")
_REASONS: Final = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
_STATUS_LINES: Final = [b"HTTP/1.1 %d %b\r\n" % (status, _REASONS.get(status, b"")) for status in range(600)]


class RequestHead:
    """A request head that passed every rule.

    `host` is the lower-case host that the request is for and `port` the port written with it (from the target where
    it has one, else from Host; None and None in an HTTP/1.0 request without either). `upgrade` is the protocol asked
    for by a valid Upgrade, else None; `names_upgrade` is true for a faulty or ignored one too.
    """

    __slots__ = (
        "connection", "content_length", "expect_continue", "fields", "framing", "host", "keep_alive", "method",
        "minor_version", "names", "names_upgrade", "port", "target", "target_form", "target_origin", "upgrade",
        "watched",
    )  # fmt: skip

    method: bytes
    target: bytes
    target_form: TargetForm
    target_origin: bytes
    minor_version: int
    fields: list[Field]
    names: list[bytes]
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

    def get(self, name: bytes) -> bytes | None:
        """The value of the first field with this lower-case name."""
        return _first(self.names, self.fields, name)

    def without(self, dropped: frozenset[bytes]) -> list[Field]:
        """The fields whose lower-case names are not in `dropped`, in their order."""
        return [field for name, field in zip(self.names, self.fields, strict=True) if name not in dropped]


class ResponseHead:
    """A response head that passed every rule; `framing` already takes the request's method into account."""

    __slots__ = (
        "connection", "content_length", "fields", "framing", "keep_alive", "minor_version", "names", "status",
        "upgrade", "watched",
    )  # fmt: skip

    status: int
    minor_version: int
    fields: list[Field]
    names: list[bytes]
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

    def get(self, name: bytes) -> bytes | None:
        """The value of the first field with this lower-case name."""
        return _first(self.names, self.fields, name)

    def without(self, dropped: frozenset[bytes]) -> list[Field]:
        """The fields whose lower-case names are not in `dropped`, in their order."""
        return [field for name, field in zip(self.names, self.fields, strict=True) if name not in dropped]


def _first(names: list[bytes], fields: list[Field], name: bytes) -> bytes | None:
    return fields[names.index(name)][1] if name in names else None


def parse_request_head(raw: bytes) -> RequestHead:
    """Parses a whole request head, its empty line included; raises HeadError (400, 414, 417, 431, 501, 505)."""
    match = _REQUEST.fullmatch(raw)
    if match is None or len(raw) > MAX_HEAD_BYTES:
        raise _refused_head(raw)
    head = RequestHead()
    head.method, head.target, minor, block = match.groups()
    head.minor_version = 1 if minor == b"1" else 0
    head.fields = parse_field_lines(block)
    head.names, head.watched = index_fields(head.fields)
    _set_target(head)
    _set_request_framing(head)
    _set_request_connection(head)
    return head


def _set_target(head: RequestHead) -> None:
    head.target_form, authority, head.target_origin = parse_target(head.method, head.target)
    host = head.watched.get(b"host")
    if host is None and head.minor_version == 1:
        raise HeadError("no_host", "an HTTP/1.1 request without Host")
    if host is not None:
        named = parse_authority(host)
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
        if framing is not None:
            raise HeadError("content_in_connect", "CONNECT cannot have content")
        framing = (Framing.TUNNEL, 0)
    head.framing, head.content_length = framing or (Framing.NONE, 0)
    expect = head.watched.get(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        raise HeadError("unknown_expectation", "an expectation other than 100-continue", 417)
    has_content = head.framing is Framing.CHUNKED or head.content_length > 0
    head.expect_continue = expect is not None and has_content and head.minor_version == 1


def _set_request_connection(head: RequestHead) -> None:
    watched = head.watched
    head.connection = options = connection_options(watched.get(b"connection"))
    head.keep_alive = head.minor_version == 1 and b"close" not in options
    upgrade = watched.get(b"upgrade")
    head.names_upgrade = upgrade is not None
    head.upgrade = None
    possible = b"upgrade" in options and head.framing is Framing.NONE and head.minor_version == 1
    # One protocol only; h2c would carry requests that nobody here has looked at.
    if upgrade is not None and possible and is_token(upgrade) and upgrade.lower() != b"h2c":
        head.upgrade = upgrade


def parse_response_head(raw: bytes, *, request_method: bytes, upgrade: bytes | None = None) -> ResponseHead:
    """Parses a whole response head, its empty line included; raises HeadError.

    `request_method` and `upgrade` (the protocol that the request asked for) decide what the response may be: 101 is
    accepted only with exactly that protocol, and a 2xx to CONNECT has no content.
    """
    match = _RESPONSE.fullmatch(raw)
    if match is None or len(raw) > MAX_HEAD_BYTES:
        raise _refused_head(raw)
    head = ResponseHead()
    minor, status, block = match.groups()
    head.minor_version = 1 if minor == b"1" else 0
    head.status = int(status)
    head.fields = parse_field_lines(block)
    head.names, head.watched = index_fields(head.fields)
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
        if framing not in (None, (Framing.LENGTH, 0)):
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
