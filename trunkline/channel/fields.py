"""Field lines of HTTP/1.1 heads and trailers: their grammar, what they say about framing, and which are forwarded.

The grammar is RFC 9110 section 5 and RFC 9112 section 5, without anything that a recipient is merely allowed to
tolerate: no line folding, no bare CR or LF, no space before the colon, no control characters in values. It is written
as regular expressions over whole blocks, so that a value that could carry a CR or LF cannot come out of it.
"""

import re
from collections.abc import Iterable
from enum import Enum
from typing import Final

HEAD_END: Final = b"\r\n\r\n"
MAX_HEAD_BYTES: Final = 32 * 1024
MAX_FIELDS: Final = 100
MAX_TRAILER_BYTES: Final = 8 * 1024

Field = tuple[bytes, bytes]

TOKEN_CHARACTER: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
VALUE_CHARACTER: Final = rb"[\t\x20-\x7e\x80-\xff]"
FIELD_LINES: Final = rb"(?:" + TOKEN_CHARACTER + rb"++:" + VALUE_CHARACTER + rb"*+\r\n)*+"
OWN_PREFIX: Final = b"trunkline-"
# A CR or LF that is not half of a CRLF; a CR at the very end may still become one.
BARE_LINE_END: Final = re.compile(rb"\r(?!\n|\Z)|(?<!\r)\n")

_FIELD: Final = re.compile(rb"(" + TOKEN_CHARACTER + rb"++):[ \t]*+(" + VALUE_CHARACTER + rb"*+)")
_SPACE: Final = 0x20
_CONTROLS: Final = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])
# Each octet for itself, and a space for one that no value may have: a table costs a tenth of what an expression does.
_WITHOUT_CONTROLS: Final = bytes.maketrans(_CONTROLS, b" " * len(_CONTROLS))
_PROTOCOL: Final = re.compile(TOKEN_CHARACTER + rb"++(?:/" + TOKEN_CHARACTER + rb"++)?+")
# An empty list is one too (RFC 9110 section 5.6.1.2).
_TOKEN_LIST: Final = re.compile(
    rb"[ \t,]*+(?:" + TOKEN_CHARACTER + rb"++(?:[ \t]*+,[ \t,]*+" + TOKEN_CHARACTER + rb"++)*+[ \t,]*+)?+"
)
_LIST_SEPARATORS: Final = re.compile(rb"[ \t,]+")
_CONTENT_LENGTH: Final = re.compile(rb"0|[1-9][0-9]{0,17}")

# Fields that belong to one connection (RFC 9110 section 7.6.1), and those by which a hop speaks of itself.
HOP_BY_HOP: Final = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization",
    b"proxy-authentication-info", b"te", b"transfer-encoding", b"upgrade", b"content-length", b"trailer",
})  # fmt: skip
# Fields that frame, route, authenticate or change the meaning of a message: never in trailers (RFC 9110 section 6.5.1).
FORBIDDEN_TRAILERS: Final = HOP_BY_HOP | frozenset({
    b"host", b"authorization", b"www-authenticate", b"cookie", b"set-cookie", b"content-encoding", b"content-type",
    b"content-range", b"expect", b"max-forwards", b"cache-control", b"range", b"location", b"retry-after", b"vary",
    b"date", b"age", b"expires", b"via", b"proxy-status",
})  # fmt: skip
# A second line of one of these in a request is an error, never a list, even where both lines say the same.
SINGLE: Final = frozenset({
    b"host", b"content-length", b"transfer-encoding", b"upgrade", b"expect", b"authorization", b"proxy-authorization",
    b"content-type", b"max-forwards",
})  # fmt: skip
# The same in a response, of which only framing is the relay's concern.
SINGLE_IN_RESPONSES: Final = frozenset({b"content-length", b"transfer-encoding", b"upgrade"})
# What the parsers look at while they read the lines; all other fields pass unread.
_WATCHED: Final = SINGLE | frozenset({b"connection", b"date"})


# Options that say how a connection goes on, and nominate no field that is not hop-by-hop anyway.
PLAIN_OPTIONS: Final = frozenset({b"close", b"keep-alive", b"upgrade"})
_USUAL_OPTIONS: Final[dict[bytes | None, frozenset[bytes]]] = {
    None: frozenset(),
    b"close": frozenset({b"close"}),
    b"keep-alive": frozenset({b"keep-alive"}),
}


class Framing(Enum):
    """How the end of a message's content is known (RFC 9112 section 6.3)."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"
    TUNNEL = "tunnel"


class HeadError(Exception):
    """A head that is refused: `status` is what a server answers, `code` names the rule that was broken."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class FieldLine:
    """A field line that the grammar has matched, and what is asked of it again and again; a value, do not change it.

    Attributes:
        name: in lower case.
        field: name and value as they came, without the white space around the value.
        text: the whole line in canonical form, its CRLF included.
        watched: whether it decides on framing, routing or the connection's fate.
        own: whether the name is one of Trunkline's own.
    """

    __slots__ = ("field", "name", "own", "text", "watched")

    def __init__(self, written_name: bytes, value: bytes) -> None:
        self.name: bytes = written_name.lower()
        self.field: Field = (written_name, value)
        self.text: bytes = b"%b: %b\r\n" % self.field
        self.watched: bool = self.name in _WATCHED
        self.own: bool = self.name.startswith(OWN_PREFIX)


def read_field_line(line: bytes) -> FieldLine:
    """Reads a field line, given without its CRLF; raises HeadError for what the grammar does not produce."""
    match = _FIELD.fullmatch(line)
    if match is None:
        raise HeadError("malformed_head", "the head is malformed")
    return FieldLine(match[1], match[2].rstrip(b" \t"))


def parse_trailers(block: bytes) -> list[Field]:
    """Parses trailer field lines; raises HeadError for bad lines and for fields that must not be trailers."""
    texts = block.split(b"\r\n")
    if texts.pop():
        raise HeadError("bad_trailer", "a trailer line is malformed")
    if len(texts) > MAX_FIELDS:
        raise HeadError("too_many_fields", f"more than {MAX_FIELDS} trailers", 431)
    try:
        lines = [read_field_line(text) for text in texts]
    except HeadError:
        raise HeadError("bad_trailer", "a trailer line is malformed") from None
    if any(line.name in FORBIDDEN_TRAILERS for line in lines):
        raise HeadError("forbidden_trailer", "a trailer carries a field that is not allowed there")
    return [line.field for line in lines]


def watched_values(lines: list[FieldLine], single: frozenset[bytes]) -> dict[bytes, bytes]:
    """The values that decide on framing and the connection's fate, by lower-case name; lists are joined.

    Raises HeadError when a field of which there can be one, named in `single`, is there twice.
    """
    watched: dict[bytes, bytes] = {}
    for line in lines:
        if line.watched:
            name, value = line.name, line.field[1]
            if name not in watched:
                watched[name] = value
            elif name in single:
                raise HeadError("duplicate_field", f"{name.decode('ascii')} is given twice")
            else:
                watched[name] += b", " + value
    return watched


def connection_options(value: bytes | None) -> frozenset[bytes]:
    """The lower-case options of a Connection field; raises HeadError when it is not a list of tokens."""
    usual = _USUAL_OPTIONS.get(value)
    if usual is not None:
        return usual
    if value is None or not _TOKEN_LIST.fullmatch(value):
        raise HeadError("bad_connection", "the Connection field is not a list of options")
    options = value.lower().strip(b" \t,")
    return frozenset(_LIST_SEPARATORS.split(options)) if options else frozenset()


def content_framing(watched: dict[bytes, bytes], *, minor_version: int) -> tuple[Framing, int] | None:
    """The framing that Content-Length or Transfer-Encoding give; None when there is neither.

    Stricter than RFC 9112 section 6: both at once, a coding other than exactly `chunked`, Transfer-Encoding in
    HTTP/1.0, and a length with signs, spaces, leading zeros or more than 18 digits are errors.
    """
    coding = watched.get(b"transfer-encoding")
    length = watched.get(b"content-length")
    if coding is None:
        return None if length is None else (Framing.LENGTH, _parse_content_length(length))
    if length is not None:
        raise HeadError("two_framings", "both Content-Length and Transfer-Encoding are given")
    if minor_version == 0:
        raise HeadError("coding_in_http_1_0", "Transfer-Encoding in an HTTP/1.0 message")
    if coding.lower() != b"chunked":
        raise HeadError("unknown_coding", "a transfer coding other than chunked", 501)
    return Framing.CHUNKED, 0


def _parse_content_length(value: bytes) -> int:
    if not _CONTENT_LENGTH.fullmatch(value):
        raise HeadError("bad_content_length", "the Content-Length is not a plain decimal number")
    return int(value)


def is_protocol(value: bytes) -> bool:
    """Whether the value is one protocol of RFC 9110 section 7.8: a name, perhaps with a version."""
    return _PROTOCOL.fullmatch(value) is not None


def is_field_value(value: bytes) -> bool:
    """Whether the value may stand in a field line: no controls, no white space at its ends."""
    if not value:
        return True
    return value[0] > _SPACE and value[-1] > _SPACE and value.translate(_WITHOUT_CONTROLS) == value


def end_to_end(fields: Iterable[Field], dropped: frozenset[bytes]) -> list[Field]:
    """The fields whose lower-case names are not in `dropped`, in their order."""
    return [field for field in fields if field[0].lower() not in dropped]


def write_field_lines(fields: Iterable[Field]) -> bytes:
    """Writes field lines and checks nothing: a head is checked as a whole, and trailers come from a parser here."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])
