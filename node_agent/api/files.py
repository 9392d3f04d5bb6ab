"""`/v1/files`: what there is, listings, hashes, directories and links; for contents see `file_contents`."""

from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from node_agent.api.file_query import PLACE_KEYS, FileQuery
from node_agent.api.lines import Lines
from node_agent.api.routing import ApiRefused, caller_of, json_response
from node_agent.files.admission import Direction
from node_agent.files.copying import Copying
from node_agent.files.failures import FileFailed
from node_agent.files.files import NodeFiles
from node_agent.files.uses import FileEvent
from node_agent.files.worker.frames import Document
from node_agent.files.worker.places import Place
from node_agent.files.worker_process import WorkerGone
from trunkline.files.names import NameRefused, check_name
from trunkline.files.trees import TreeEntry

ENTRY_KEYS = PLACE_KEYS
TREE_KEYS = PLACE_KEYS
DIGEST_KEYS = (*PLACE_KEYS, "length")
TARGET_KEYS = (*PLACE_KEYS, "name")
DIRECTORY_KEYS = (*PLACE_KEYS, "mode", "mtime_ns")
LINK_KEYS = (*PLACE_KEYS, "target")


class FilesApi:
    """Answers for files of the node, but for what is in them."""

    def __init__(self, files: NodeFiles) -> None:
        self._files = files

    async def entry(self, request: web.Request) -> web.StreamResponse:
        """Answer `GET /v1/files/entry`: what is at a path."""
        asked = FileQuery(request).asked(Direction.READ)
        async with self._files.copying(asked, caller_of(request).claims) as copying:
            found = await copying.worker.say(copying.request("look"))
        return json_response(attributes(found))

    async def tree(self, request: web.Request) -> web.StreamResponse:
        """Answer `GET /v1/files/tree`: everything beneath a directory, in lines."""
        asked, lines = FileQuery(request).asked(Direction.READ), Lines(request)
        try:
            async with self._files.copying(asked, caller_of(request).claims, FileEvent.LISTED) as copying:
                await copying.worker.ask(copying.request("tree", most_entries=copying.rules.max_entries))
                entries = aiter(self._entries(copying))
                first = await anext(entries)
                async with lines.during():
                    await lines.write(first)
                    async for more in entries:
                        await lines.write(more)
        except (FileFailed, WorkerGone) as error:
            if not lines.begun:
                raise
            return await lines.end(failure_line(error))
        return await lines.end({"complete": True})

    async def digest(self, request: web.Request) -> web.StreamResponse:
        """Answer `GET /v1/files/digest`: the SHA-256 of the first `length` bytes of a file."""
        query, lines = FileQuery(request), Lines(request)
        length, asked = query.number("length"), query.asked(Direction.READ)
        try:
            async with (
                self._files.copying(asked, caller_of(request).claims, FileEvent.HASHED) as copying,
                lines.during(),
            ):
                answer = await copying.worker.say(copying.request("digest", length_bytes=length))
                copying.note(size_bytes=length, sha256=str(answer.get("sha256")))
        except (FileFailed, WorkerGone) as error:
            if not lines.begun:
                raise
            return await lines.end(failure_line(error))
        return await lines.end({"sha256": str(answer.get("sha256"))})

    async def target(self, request: web.Request) -> web.StreamResponse:
        """Answer `GET /v1/files/target`: what is where something is to go, and how much of it has arrived there.

        With `name` and a directory at `path` it is about that name in there, and `into` is true.
        """
        query = FileQuery(request)
        asked, name = query.asked(Direction.WRITE), query.optional_text("name")
        async with self._files.copying(asked, caller_of(request).claims) as copying:
            into = name is not None and await _is_directory(copying)
            if name is not None and into:
                copying.place = inside(copying.place, name, confined=copying.confined)
            found = await copying.worker.say(copying.request("target"))
        kind, received = found.get("kind"), found.get("received_bytes")
        return json_response({"kind": kind, "into": into, "received_bytes": received})

    async def make_directory(self, request: web.Request) -> web.StreamResponse:
        """Answer `PUT /v1/files/directory`: make it if it is not there, and set `mode` and `mtime_ns` if given."""
        query = FileQuery(request)
        asked, mode, mtime_ns = query.asked(Direction.WRITE), query.mode(), query.optional_number("mtime_ns")
        if (mode is None) is not (mtime_ns is None):
            raise ApiRefused(400, "INVALID_PARAMETER_VALUE", "give mode and mtime_ns, or neither")
        event = FileEvent.MADE if mode is None else None
        async with self._files.copying(asked, caller_of(request).claims, event) as copying:
            await copying.worker.say(copying.request("make_directory", mode=mode, mtime_ns=mtime_ns))
        return json_response({})

    async def make_link(self, request: web.Request) -> web.StreamResponse:
        """Answer `PUT /v1/files/link`: a symbolic link to `target`, which stays beneath `path`."""
        query = FileQuery(request)
        asked, target = query.asked(Direction.WRITE), query.text("target")
        async with self._files.copying(asked, caller_of(request).claims, FileEvent.MADE) as copying:
            depth = max(0, len(copying.place.parts) - 1)
            await copying.worker.say(copying.request("make_link", target=target, depth=depth))
        return json_response({})

    async def _entries(self, copying: Copying) -> AsyncIterator[dict[str, Any]]:
        count = 0
        while isinstance(answer := await copying.worker.answer(), dict) and not answer.get("done"):
            listed = [_entry_document(fields) for fields in answer["entries"]]
            count += len(listed)
            copying.note(size_bytes=count)
            yield {"entries": listed}


def attributes(found: Document) -> dict[str, Any]:
    """Return what is told of a file: permissions as octal digits."""
    kind, size, mode, mtime = (found.get(key) for key in ("kind", "size_bytes", "mode", "mtime_ns"))
    if not isinstance(size, int) or not isinstance(mode, int) or not isinstance(mtime, int):
        raise WorkerGone("the process that reads and writes files says what is no answer")
    return {"kind": str(kind), "size_bytes": size, "mode": f"{mode & 0o777:03o}", "mtime_ns": mtime}


def failure_line(error: FileFailed | WorkerGone) -> dict[str, Any]:
    """Return the last line of an answer that was begun and went wrong."""
    if isinstance(error, FileFailed):
        return {"error": {"status": error.status, **error.document()}}
    return {"error": {"status": 503, "error_code": "TEMPORARILY_UNAVAILABLE", "message": str(error)}}


def inside(place: Place, name: str, *, confined: bool) -> Place:
    """Return a name in a directory: one that was named by a link is a directory for all that follows."""
    try:
        check_name(name)
    except NameRefused as error:
        raise ApiRefused(400, "INVALID_PARAMETER_VALUE", str(error)) from None
    if confined:
        return Place(place.anchor, (*place.parts, name))
    return Place("/".join([place.anchor.rstrip("/"), *place.parts]) or "/", (name,))


async def _is_directory(copying: Copying) -> bool:
    followed = copying.place._replace(follow=not copying.confined)
    original, copying.place = copying.place, followed
    try:
        return bool((await copying.worker.say(copying.request("look"))).get("kind") == "directory")
    except FileFailed as error:
        if error.symbol != "ENOENT":
            raise
        return False
    finally:
        copying.place = original


def _entry_document(fields: list[Any]) -> dict[str, Any]:
    entry = TreeEntry(*fields)
    document = {"path": entry.path, **attributes(entry._asdict())}
    document |= {"target": entry.target} if entry.kind == "link" else {}
    return document | ({"problem": entry.problem} if entry.problem else {})
