"""What a worker does to read: look, list, hash, and hand content over."""

import hashlib
import os
from collections.abc import Iterable, Iterator

from node_agent.files.worker.conversation import Conversation
from node_agent.files.worker.failures import Failed
from node_agent.files.worker.frames import MOST_FRAME_BYTES, PIECE_BYTES, Document
from node_agent.files.worker.places import Place, place_of
from trunkline.files import beneath
from trunkline.files.digests import hash_prefix
from trunkline.files.trees import TreeEntry, walk

ENTRIES_IN_A_DOCUMENT = 200
_MOST_JSON_BYTES_OF_A_CHARACTER = 12
_NUMBERS_BYTES = 256


def look(request: Document, agent: Conversation) -> Document:
    """Say what is at a place."""
    status = place_of(request).look()
    if status is None:
        raise FileNotFoundError(2, "")
    return attributes(status)


def attributes(status: os.stat_result) -> Document:
    """Return what is told of a file."""
    return {
        "kind": beneath.kind_of(status.st_mode),
        "size_bytes": status.st_size,
        "mode": status.st_mode & 0o777,
        "mtime_ns": status.st_mtime_ns,
    }


def tree(request: Document, agent: Conversation) -> Document:
    """List everything beneath a directory."""
    descriptor = _listed(place_of(request))
    count = 0
    try:
        for entries in _batches(walk(descriptor, request["most_entries"])):
            agent.say({"entries": entries})
            count += len(entries)
    finally:
        os.close(descriptor)
    return {"count": count}


def _batches(found: Iterable[TreeEntry]) -> Iterator[list[list[object]]]:
    """Cut a listing into pieces that fit a frame, however long the names in it are; the last may be empty."""
    entries, size_bytes = [], 0
    for entry in found:
        entries.append(list(entry))
        text = len(entry.path) + len(entry.target) + len(entry.problem)
        size_bytes += text * _MOST_JSON_BYTES_OF_A_CHARACTER + _NUMBERS_BYTES
        if len(entries) == ENTRIES_IN_A_DOCUMENT or size_bytes > MOST_FRAME_BYTES // 2:
            yield entries
            entries, size_bytes = [], 0
    yield entries


def _listed(place: Place) -> int:
    flags = beneath.LISTED & ~os.O_NOFOLLOW if place.follow or not place.parts else beneath.LISTED
    with place.directory() as descriptor:
        return os.open(place.name, flags, dir_fd=descriptor)


def digest(request: Document, agent: Conversation) -> Document:
    """Hash the beginning of a file."""
    descriptor = place_of(request).open_regular()
    try:
        hasher = hash_prefix(descriptor, request["length_bytes"], agent.progress)
    finally:
        os.close(descriptor)
    return {"sha256": hasher.hexdigest()}


def read(request: Document, agent: Conversation) -> Document:
    """Hand over a file from an offset to the end that it has now; behind it, the hash of what was handed over."""
    descriptor = place_of(request).open_regular()
    try:
        status = os.fstat(descriptor)
        offset, size = request["offset"], status.st_size
        if offset > size:
            raise Failed("BEYOND_END", size)
        if size > request["most_bytes"]:
            raise Failed("TOO_LARGE", size)
        agent.say(attributes(status))
        return _hand_over(descriptor, offset, size, request["most_bytes"], agent)
    finally:
        os.close(descriptor)


def _hand_over(descriptor: int, offset: int, size: int, most_bytes: int, agent: Conversation) -> Document:
    hasher, begin = hashlib.sha256(), offset
    # A file of /proc has no size until it is read; anything else is taken as it was when it was opened.
    end = size or most_bytes
    while offset < end and (piece := os.pread(descriptor, min(PIECE_BYTES, end - offset), offset)):
        hasher.update(piece)
        offset += len(piece)
        agent.give(piece)
    if offset < size:
        raise Failed("TOO_SHORT", offset)
    if not size and offset == most_bytes:
        raise Failed("TOO_LARGE")
    return {"sha256": hasher.hexdigest(), "sent_bytes": offset - begin}
