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
# A CR or LF that is not half of a CRLF; a CR at the very end may still become one.
BARE_LINE_END: Final = re.compile(rb"\r(?!\n|\Z)|(?<!\r)\n")

_FIELD: Final = re.compile(rb"(" + TOKEN_CHARACTER + rb"++):[ \t]*+(" + VALUE_CHARACTER + rb"*+)\r\n")
_FIELD_LINES: Final = re.compile(FIELD_LINES)
_TOKEN: Final = re.compile(TOKEN_CHARACTER + rb"++")
_VALUE: Final = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:" + VALUE_CHARACTER + rb"*[\x21-\x7e\x80-\xff])?)?")
_TOKEN_LIST: Final = re.compile(
    rb"[ \t,]*+" + TOKEN_CHARACTER + rb"++(?:[ \t]*+,[ \t,]*+" + TOKEN_CHARACTER + rb"++)*+[ \t,]*+"
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
# A second line of one of these is an error, never a list, even where both lines say the same.
SINGLE: Final = frozenset({
    b"host", b"content-length", b"transfer-encoding", b"upgrade", b"expect", b"authorization", b"proxy-authorization",
    b"content-type", b"max-forwards",
})  # fmt: skip
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


def parse_field_lines(block: bytes, *, max_fields: int = MAX_FIELDS) -> list[Field]:
    """Splits a block of field lines that the grammar has matched; raises HeadError 431 above `max_fields`."""
    fields: list[Field] = _FIELD.findall(block)
    if len(fields) > max_fields:
        raise HeadError("too_many_fields", f"more than {max_fields} fields", 431)
    if b" \r\n" in block or b"\t\r\n" in block:
        fields = [(name, value.rstrip(b" \t")) for name, value in fields]
    return fields


def parse_trailers(block: bytes) -> list[Field]:
    """Parses trailer field lines; raises HeadError for bad lines and for fields that must not be trailers."""
    if not _FIELD_LINES.fullmatch(block):
        raise HeadError("bad_trailer", "a trailer line is malformed")
    fields = parse_field_lines(block)
    for name, _ in fields:
        if name.lower() in FORBIDDEN_TRAILERS:
            raise HeadError("forbidden_trailer", "a trailer carries a field that is not allowed there")
    return fields


def index_fields(fields: list[Field]) -> tuple[list[bytes], dict[bytes, bytes]]:
    """The fields' names in lower case; and those fields that decide framing and the connection's fate, by such names.

    Raises HeadError when a field of which there can be one is there twice.
    """
    names = []
    watched: dict[bytes, bytes] = {}
    for name, value in fields:
        name = name.lower()
        names.append(name)
        if name in _WATCHED:
            if name not in watched:
                watched[name] = value
            elif name in SINGLE:
                raise HeadError("duplicate_field", f"{name.decode('ascii')} is given twice")
            else:
                watched[name] += b", " + value
    return names, watched


def connection_options(value: bytes | None) -> frozenset[bytes]:
    """The lower-case options of a Connection field; raises HeadError when it is not a list of tokens."""
    usual = _USUAL_OPTIONS.get(value)
    if usual is not None:
        return usual
    if value is None or not _TOKEN_LIST.fullmatch(value):
        raise HeadError("bad_connection", "the Connection field is not a list of options")
    return frozenset(_LIST_SEPARATORS.split(value.lower().strip(b" \t,")))


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


def is_token(value: bytes) -> bool:
    """Whether the value is one token of RFC 9110 section 5.6.2."""
    return _TOKEN.fullmatch(value) is not None


def is_field_value(value: bytes) -> bool:
    """Whether the value may stand in a field line: no controls, no white space at its ends."""
    return _VALUE.fullmatch(value) is not None


def end_to_end(fields: Iterable[Field], dropped: frozenset[bytes]) -> list[Field]:
    """The fields whose lower-case names are not in `dropped`, in their order."""
    return [field for field in fields if field[0].lower() not in dropped]


def write_field_lines(fields: Iterable[Field]) -> bytes:
    """Writes field lines; the fields must come from a parser here or have passed `checked_field`."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])


def checked_field(name: bytes, value: bytes) -> Field:
    """A field made from strings of other origin; raises ValueError when it could break out of its line."""
    if not is_token(name) or not is_field_value(value):
        raise ValueError("not a valid field name and value")
    return name, value
