"""`/v1/files/content`: bytes of files, both ways, each behind a hash that the receiver compares."""

import asyncio
from typing import Any

from aiohttp import web

from node_agent.api.file_query import PLACE_KEYS, FileQuery
from node_agent.api.files import attributes, failure_line
from node_agent.api.lines import Lines
from node_agent.api.routing import ApiRefused, caller_of
from node_agent.files.admission import Direction
from node_agent.files.copying import Copying
from node_agent.files.failures import FileFailed
from node_agent.files.files import NodeFiles
from node_agent.files.uses import FileEvent
from node_agent.files.worker_process import WorkerGone
from trunkline.files.digests import DIGEST_BYTES

READ_KEYS = (*PLACE_KEYS, "offset")
WRITE_KEYS = (*PLACE_KEYS, "offset", "prefix_sha256", "mode", "mtime_ns", "keep", "size")
DEFAULT_MODE = 0o644


class FileContentsApi:
    """Answers for the contents of files. A caller that neither reads nor sends for `stall_seconds` is given up."""

    def __init__(self, files: NodeFiles, *, stall_seconds: float) -> None:
        self._files = files
        self._stall_seconds = stall_seconds

    async def read(self, request: web.Request) -> web.StreamResponse:
        """Answer `GET /v1/files/content`: from `offset` to the end, and behind it the SHA-256 of just these bytes."""
        query = FileQuery(request)
        asked, offset = query.asked(Direction.READ), query.number("offset", 0)
        async with self._files.copying(asked, caller_of(request).claims, FileEvent.READ) as copying:
            copying.note(offset=offset)
            bound = copying.rules.max_file_bytes
            await copying.worker.ask(copying.request("read", offset=offset, most_bytes=bound))
            response = _content_response(attributes(await copying.worker.document()))
            await response.prepare(request)
            try:
                await self._send(response, copying)
            except (FileFailed, WorkerGone, TimeoutError):
                if request.transport is not None:
                    request.transport.abort()  # a part must not look like the whole
                raise
        await response.write_eof()
        return response

    async def write(self, request: web.Request) -> web.StreamResponse:
        """Answer `PUT /v1/files/content`: the file from `offset` on, and behind it the SHA-256 of the whole.

        The answer is in lines, and begins before the content is here.
        """
        query, lines = FileQuery(request), Lines(request)
        asked = query.asked(Direction.WRITE)
        try:
            async with self._files.copying(asked, caller_of(request).claims, FileEvent.WRITTEN) as copying:
                await self._begin(query, copying)
                async with lines.during():
                    answer = await self._take_in(request, copying)
        except (FileFailed, WorkerGone) as error:
            if not lines.begun:
                raise
            return await lines.end(failure_line(error))
        return await lines.end(answer)

    async def _send(self, response: web.StreamResponse, copying: Copying) -> None:
        sent = 0
        while isinstance(answer := await copying.worker.answer(), bytes):
            async with asyncio.timeout(self._stall_seconds):
                await response.write(answer)
            sent += len(answer)
            copying.note(size_bytes=sent)
        digest = str(answer.get("sha256"))
        copying.note(sha256=digest)
        await response.write(_raw(digest))

    async def _begin(self, query: FileQuery, copying: Copying) -> None:
        offset, prefix, size = query.number("offset", 0), query.digest("prefix_sha256"), query.optional_number("size")
        keep, mtime_ns = query.flag("keep"), query.optional_number("mtime_ns")
        if (prefix is None) is not (offset == 0):
            raise ApiRefused(400, "INVALID_PARAMETER_VALUE", "prefix_sha256 belongs to an offset above 0")
        if keep and mtime_ns is None:
            raise ApiRefused(400, "INVALID_PARAMETER_VALUE", "keep needs mtime_ns")
        if size is not None and size > copying.rules.max_file_bytes:
            raise FileFailed("TOO_LARGE")
        request = copying.request(
            "write",
            offset=offset,
            prefix_sha256=prefix,
            mode=query.mode(DEFAULT_MODE),
            mtime_ns=mtime_ns,
            keep=keep,
            most_bytes=copying.rules.max_file_bytes,
        )
        await copying.worker.ask(request)
        await copying.worker.document()
        copying.note(offset=offset, size_bytes=offset)

    async def _take_in(self, request: web.Request, copying: Copying) -> dict[str, Any]:
        """Hand the content over while it comes, until the worker is done, or has had enough of it."""
        feeding = asyncio.create_task(self._feed(request, copying))
        ending = asyncio.create_task(copying.worker.done())
        try:
            await asyncio.wait([feeding, ending], return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                await feeding
            answer = await ending
        finally:
            feeding.cancel()
            ending.cancel()
            await asyncio.gather(feeding, ending, return_exceptions=True)
        size, digest = answer.get("size_bytes"), str(answer.get("sha256"))
        copying.note(size_bytes=size if isinstance(size, int) else 0, sha256=digest)
        return {"size_bytes": size, "sha256": digest}

    async def _feed(self, request: web.Request, copying: Copying) -> None:
        """Give the worker what comes, but the last bytes, which are the hash."""
        held, received = bytearray(), copying.use.size_bytes
        while chunk := await self._next(request):
            held += chunk
            ready = len(held) - DIGEST_BYTES
            if ready > 0:
                await copying.worker.give(bytes(held[:ready]))
                del held[:ready]
                received += ready
                copying.note(size_bytes=received)
        if len(held) != DIGEST_BYTES:
            raise FileFailed("NO_DIGEST")
        await copying.worker.ask({"sha256": held.hex()})

    async def _next(self, request: web.Request) -> bytes:
        try:
            async with asyncio.timeout(self._stall_seconds):
                return await request.content.readany()
        except TimeoutError:
            raise FileFailed("STALLED") from None


def _content_response(found: dict[str, Any]) -> web.StreamResponse:
    return web.StreamResponse(
        headers={
            "Content-Type": "application/octet-stream",
            "Trunkline-Size": str(found["size_bytes"]),
            "Trunkline-Mode": found["mode"],
            "Trunkline-Modified": str(found["mtime_ns"]),
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
    )


def _raw(digest: str) -> bytes:
    try:
        raw = bytes.fromhex(digest)
    except ValueError:
        raw = b""
    if len(raw) != DIGEST_BYTES:
        raise WorkerGone("the process that reads and writes files says what is no hash")
    return raw
