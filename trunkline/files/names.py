"""Names of files that are copied: what may stand beneath a directory, and how names are shown to people.

Names are text in which bytes that are not UTF-8 stand as surrogates (PEP 383), as the operating system gives them.
"""

import hashlib
import os
from collections.abc import Iterable

MOST_PARTS = 128
MOST_NAME_BYTES = 255
MOST_PATH_BYTES = 4095
PARTIAL_SUFFIX = ".trunkline-part"
_MOST_KEPT_BYTES = MOST_NAME_BYTES - len(PARTIAL_SUFFIX) - 1


class NameRefused(ValueError):  # noqa: N818 - an expected refusal
    """A name or path cannot stand beneath a directory, or leads out of it; the message says why."""


def parts_of(path: str) -> tuple[str, ...]:
    """Return the names of a relative path; the empty path has none.

    Raises:
        NameRefused: it is absolute, has an empty part, `.`, `..` or a NUL, or is too long or deep.
    """
    if not path:
        return ()
    if len(os.fsencode(path)) > MOST_PATH_BYTES:
        raise NameRefused(f"a path is longer than {MOST_PATH_BYTES} bytes")
    parts = tuple(path.split("/"))
    if len(parts) > MOST_PARTS:
        raise NameRefused(f"a path is deeper than {MOST_PARTS} directories")
    for part in parts:
        check_name(part)
    return parts


def check_name(name: str) -> None:
    """Let one name pass that stays in its directory.

    Raises:
        NameRefused: it is empty, `.` or `..`, holds a slash or NUL, is too long, or is a partial file's.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise NameRefused(f"{shown(name)!r} is no name beneath a directory")
    if len(os.fsencode(name)) > MOST_NAME_BYTES:
        raise NameRefused(f"a name is longer than {MOST_NAME_BYTES} bytes")
    if is_partial(name):
        raise NameRefused(f"names that end in {PARTIAL_SUFFIX} are those of partial files")


def partial_name(name: str) -> str:
    """Return the name under which a file lies while it arrives: beside its own, hidden, and the same each time."""
    raw = os.fsencode(name)
    if len(raw) > _MOST_KEPT_BYTES:
        raw = hashlib.sha256(raw).hexdigest().encode()
    return os.fsdecode(b"." + raw) + PARTIAL_SUFFIX


def is_partial(name: str) -> bool:
    """Whether a file of this name is one that has not arrived yet."""
    return name.startswith(".") and name.endswith(PARTIAL_SUFFIX)


def shown(text: str) -> str:
    """Return text of foreign origin for people: without anything that could steer a terminal or break a line."""
    return "".join(_escaped(text))


def _escaped(text: str) -> Iterable[str]:
    for character in text:
        code = ord(character)
        if character.isprintable():
            yield character
        elif 0xDC80 <= code <= 0xDCFF:
            yield f"\\x{code - 0xDC00:02x}"
        else:
            yield f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
