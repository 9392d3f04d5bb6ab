"""Strict encodings: base64url with exactly one form for each byte string, and JSON without ambiguity."""

import base64
import json
import re
from typing import Any

MAX_INTEGER_DIGITS = 16
"""Longest integer accepted in JSON: everything up to 2^53, where other languages' numbers begin to round."""

# A string that does not end goes on to the end of the text. If it did not match at all, it would be looked for again
# from each escaped quote in it, in time that is quadratic in a stranger's text.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?+', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)


def encode_base64url(raw: bytes) -> str:
    """Base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """The bytes behind `text`, which must be what `encode_base64url` gives: no padding, no stray trailing bits.

    Raises:
        ValueError: `text` is not the one canonical form of any bytes.
    """
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        msg = "not base64url"
        raise ValueError(msg)
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode_base64url(raw) != text:
        msg = "not canonical base64url"
        raise ValueError(msg)
    return raw


def decode_base64(text: str) -> bytes:
    """The bytes behind canonical, padded base64 (the form of `x5c`, RFC 7515 section 4.1.6).

    Raises:
        ValueError: `text` is not the one canonical form of any bytes.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError as error:
        msg = "not base64"
        raise ValueError(msg) from error
    if base64.b64encode(raw).decode("ascii") != text:
        msg = "not canonical base64"
        raise ValueError(msg)
    return raw


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys and no spaces, ASCII only: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def strict_json_object(raw: bytes, *, max_depth: int) -> dict[str, Any]:
    """The JSON object in `raw`, if it leaves no room for a second reading.

    UTF-8 without a byte order mark, no duplicate member at any level, no fractions, exponents or NaN, no integer
    beyond `MAX_INTEGER_DIGITS` digits, nesting at most `max_depth`.

    Raises:
        ValueError: anything else. The message holds nothing of `raw`.
    """
    if _depth(raw) > max_depth:
        msg = "JSON is nested too deeply"
        raise ValueError(msg)
    try:
        value = _DECODER.decode(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        msg = "not strict JSON"
        raise ValueError(msg) from None
    if not isinstance(value, dict):
        msg = "not a JSON object"
        raise ValueError(msg)
    return value


def _depth(raw: bytes) -> int:
    deepest = depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", raw)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        msg = "duplicate member"
        raise ValueError(msg)
    return members


def _bounded_integer(digits: str) -> int:
    if len(digits) > MAX_INTEGER_DIGITS:
        msg = "integer out of range"
        raise ValueError(msg)
    return int(digits)


def _refuse_number(_: str) -> float:
    msg = "only integers are numbers here"
    raise ValueError(msg)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_members,
    parse_int=_bounded_integer,
    parse_float=_refuse_number,
    parse_constant=_refuse_number,
)
