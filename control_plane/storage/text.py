"""Text that others wrote, made so that every database takes it."""


def storable(text: str, most_characters: int) -> str:
    r"""Return at most so many characters of a text, with escapes for what is no UTF-8 or what PostgreSQL refuses.

    JSON can say halves of surrogate pairs (RFC 8259 section 8.2), which no UTF-8 text holds, and NUL, which no text of
    PostgreSQL's holds; both become `\x00` and `\ud800`.
    """
    encodable = text[:most_characters].encode("utf-8", "backslashreplace").decode()
    return encodable.replace("\0", "\\x00")[:most_characters]
