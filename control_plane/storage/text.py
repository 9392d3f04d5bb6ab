"""Text that others wrote, made so that every database takes it."""

import re

_SURROGATE = re.compile("[\ud800-\udfff]")


def storable(text: str, most_characters: int) -> str:
    r"""Return at most so many characters of a text, with escapes for what is no UTF-8 or what PostgreSQL refuses.

    JSON can say halves of surrogate pairs (RFC 8259 section 8.2), which no UTF-8 text holds, and NUL, which no text of
    PostgreSQL's holds; both become `\x00` and `\ud800`.
    """
    encodable = text[:most_characters].encode("utf-8", "backslashreplace").decode()
    return encodable.replace("\0", "\\x00")[:most_characters]


def unstorable(text: str) -> str | None:
    """Return why no database takes a text, None if any does: what `storable` writes as escapes is wrong in a name."""
    if "\0" in text:
        return "must not hold a NUL character"
    if not text.isascii() and _SURROGATE.search(text):
        return "must be UTF-8 text"
    return None
