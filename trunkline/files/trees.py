"""Everything beneath a directory, listed without following a link, and bounded."""

import os
from collections.abc import Iterator
from typing import NamedTuple

from trunkline.files import beneath
from trunkline.files.names import MOST_PARTS, is_partial

MOST_ENTRIES = 100_000


class TreeEntry(NamedTuple):
    """One thing beneath a directory: `path` relative to that, `kind` as `beneath.kind_of` says it.

    `mode` holds permissions alone, `mtime_ns` nanoseconds since the epoch. `target` is where a link leads. `problem`
    says why nothing more is known of it, or why a directory could not be listed.
    """

    path: str
    kind: str
    size_bytes: int = 0
    mode: int = 0
    mtime_ns: int = 0
    target: str = ""
    problem: str = ""


class TooManyEntries(Exception):  # noqa: N818 - an expected refusal
    """There are more than may be listed."""


def walk(root: int, most_entries: int = MOST_ENTRIES) -> Iterator[TreeEntry]:
    """Yield what is beneath the directory, each directory before what it holds, in the order of names.

    Partial files are left out. `root` is a descriptor that can be listed, and stays the caller's.

    Raises:
        TooManyEntries: there are more, or it is deeper than a path may be.
        OSError: the directory itself cannot be listed.
    """
    left = [most_entries]
    yield from _walk(root, "", 1, left)


def _walk(descriptor: int, prefix: str, depth: int, left: list[int]) -> Iterator[TreeEntry]:
    if depth > MOST_PARTS:
        raise TooManyEntries
    for name in sorted(_names(descriptor, left)):
        entry = _entry(name, descriptor, prefix)
        if entry.kind == "directory":
            yield from _inside(name, descriptor, entry, depth, left)
        else:
            yield entry


def _names(descriptor: int, left: list[int]) -> Iterator[str]:
    with os.scandir(descriptor) as found:
        for one in found:
            if is_partial(one.name):
                continue
            left[0] -= 1
            if left[0] < 0:
                raise TooManyEntries
            yield one.name


def _inside(name: str, within: int, entry: TreeEntry, depth: int, left: list[int]) -> Iterator[TreeEntry]:
    try:
        descriptor = os.open(name, beneath.LISTED, dir_fd=within)
    except OSError as error:
        yield entry._replace(problem=error.strerror or "cannot be listed")
        return
    try:
        yield entry
        yield from _walk(descriptor, f"{entry.path}/", depth + 1, left)
    finally:
        os.close(descriptor)


def _entry(name: str, within: int, prefix: str) -> TreeEntry:
    try:
        status = os.stat(name, dir_fd=within, follow_symlinks=False)
        kind = beneath.kind_of(status.st_mode)
        target = os.readlink(name, dir_fd=within) if kind == "link" else ""
    except OSError as error:
        return TreeEntry(f"{prefix}{name}", "other", problem=error.strerror or "cannot be looked at")
    return TreeEntry(f"{prefix}{name}", kind, status.st_size, status.st_mode & 0o777, status.st_mtime_ns, target)
