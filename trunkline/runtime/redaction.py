"""The last step before a log line is written: nothing secret, nothing endless, nothing that drives a terminal."""

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

from trunkline.runtime.secret import MASK, Secret

LONGEST_TEXT = 4096
_DEEPEST = 6
_MOST_ITEMS = 100

_SECRET_KEYS = re.compile(
    r"(?:^|_|-)(?:authorization|cookie|password|passwd|secret|secrets|private_key|access_key|api_key|credential|"
    r"credentials|token|assertion|nonce|stdin|environment)$",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:Bearer|Basic)[ :=]+[A-Za-z0-9._~+/=-]{16,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){1,4}"
    r"|(?<=://)[^/@\s:]*:[^/@\s]+(?=@)"
    r"|\btl[a-z]-[A-Za-z0-9_-]{16,}",
    re.DOTALL | re.IGNORECASE,
)
# Control characters, and what reorders a line or ends it for some viewers (UAX 9 section 2, U+2028 and U+2029).
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# A traceback is the one text of several lines; JSON writes its line ends as escapes.
_MULTILINE_KEYS = ("exception", "stack")


def redact_event(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Redact a structlog event in place (a structlog processor)."""
    for key in list(event):
        event[key] = redact(event[key], key=key)
    return event


def redact(value: Any, *, key: str = "", depth: int = 0) -> Any:
    """Return `value` without what must not be logged.

    Values under keys that name secrets are masked whole; in any text, tokens, credentials in URLs and private keys
    are. Text longer than `LONGEST_TEXT` characters is cut; control characters are written as escapes.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if _SECRET_KEYS.search(key) or isinstance(value, Secret):
        return MASK
    if isinstance(value, bytes | bytearray | memoryview):
        value = bytes(value[: LONGEST_TEXT + 1]).decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return redact_text(value, multiline=depth == 0 and key in _MULTILINE_KEYS)
    return _redact_container(value, depth)


def redact_text(text: str, *, multiline: bool = False) -> str:
    """Return `text` with tokens, credentials and private keys masked, cut to a bound, and fit for a terminal."""
    if len(text) > LONGEST_TEXT:
        text = f"{text[:LONGEST_TEXT]}… ({len(text)} characters)"
    text = _SECRET_TEXT.sub(MASK, text)
    if multiline:
        return "\n".join(_escape_controls(line) for line in text.split("\n"))
    return _escape_controls(text)


def _escape_controls(text: str) -> str:
    return _CONTROL.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _redact_container(value: Any, depth: int) -> Any:
    if depth >= _DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        items = list(value.items())[:_MOST_ITEMS]
        return {redact_text(str(key)): redact(item, key=str(key), depth=depth + 1) for key, item in items}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, depth=depth + 1) for item in list(value)[:_MOST_ITEMS]]
    return redact_text(str(value))
