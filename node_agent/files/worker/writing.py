"""What a worker does to write: say what has arrived, take content in, make directories and links."""

import errno
import os

from node_agent.files.worker.conversation import Conversation
from node_agent.files.worker.failures import Failed
from node_agent.files.worker.frames import Document
from node_agent.files.worker.places import place_of
from trunkline.files import beneath, directories, links
from trunkline.files.digests import DIGEST_BYTES
from trunkline.files.partial import PartialFile, mode_of_new, received_bytes

UMASK = 0o022
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def target(request: Document, agent: Conversation) -> Document:
    """Say what is at a place, and how much of a file that is on its way there has arrived."""
    place = place_of(request)
    with place.directory() as within:
        present = beneath.look(place.name, within)
        received = received_bytes(place.name, within) if place.parts else 0
    return {"kind": None if present is None else beneath.kind_of(present.st_mode), "received_bytes": received}


def write(request: Document, agent: Conversation) -> Document:
    """Take a file in, from an offset on, and put it in its place once its hash is right."""
    place = place_of(request)
    if not place.parts:
        raise Failed("EISDIR")
    with place.directory() as within, PartialFile.open(within, place.name) as partial:
        _begin(request, partial, agent)
        try:
            digest = _take_in(partial, request["most_bytes"], agent)
        except OSError as error:
            if error.errno in _NO_ROOM:
                partial.discard()  # a disk that is full is no place to leave something on
            raise
        mode = mode_of_new(place.name, within, request["mode"], keep=request["keep"], umask=UMASK)
        partial.commit(digest, mode=mode, mtime_ns=request["mtime_ns"] if request["keep"] else None)
        return {"size_bytes": partial.size_bytes, "sha256": digest.hex()}


def _begin(request: Document, partial: PartialFile, agent: Conversation) -> None:
    """Agree with the sender on what is there already."""
    offset = request["offset"]
    if offset not in (0, partial.size_bytes):
        raise Failed("BEYOND_END", partial.size_bytes)
    agent.say({"ready": True})
    if not offset:
        partial.restart()
        return
    partial.rehash(agent.progress)
    if partial.digest.hex() != request["prefix_sha256"]:
        partial.discard()
        raise Failed("OTHER_PREFIX")


def _take_in(partial: PartialFile, most_bytes: int, agent: Conversation) -> bytes:
    """Append what comes; return the hash that the sender says the whole has."""
    while isinstance(piece := agent.content(), bytes):
        if partial.size_bytes + len(piece) > most_bytes:
            partial.discard()
            raise Failed("TOO_LARGE")
        partial.append(piece)
    digest = bytes.fromhex(piece["sha256"])
    if len(digest) != DIGEST_BYTES:
        raise Failed("WRONG_DIGEST")
    return digest


def make_directory(request: Document, agent: Conversation) -> Document:
    """Make a directory, or give one that is there its permissions and time."""
    place = place_of(request)
    if not place.parts:
        return {}
    with place.directory() as within:
        directories.make_directory(place.name, within)
        if request["mode"] is not None:
            directories.set_attributes(place.name, within, request["mode"], request["mtime_ns"])
    return {}


def make_link(request: Document, agent: Conversation) -> Document:
    """Make a symbolic link that leads nowhere but into the tree that is copied, whose top `depth` is counted from."""
    place = place_of(request)
    if not place.parts or not links.stays_inside(request["depth"], request["target"]):
        raise Failed("LINK_LEADS_OUT")
    with place.directory() as within:
        links.make_link(place.name, within, os.fsdecode(os.fsencode(request["target"])))
    return {}
