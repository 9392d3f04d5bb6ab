"""One file of this machine, copied to a node.

Theory of operation. The node keeps what has arrived in a partial file. An attempt asks how much that is, sends the hash
of so much of our file and the rest of it, and behind that the hash of the whole. A node whose part is another removes
it, and the next attempt begins anew. The node answers in lines while we send, so that silence means a dead link.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

from trunkline.client.copy_listener import CopyListener
from trunkline.client.errors import BadResponse, TrunklineError
from trunkline.client.file_calls import FileCalls, RemotePlace
from trunkline.client.persistence import Furthest, wait_for_next
from trunkline.client.resumption import Resumption
from trunkline.files.digests import hash_prefix
from trunkline.runtime.threads import in_thread

PIECE_BYTES = 262_144
WORTH_RESUMING_BYTES = 1024 * 1024
"""A smaller file is sent from its beginning, without asking how much of it is there."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One file to be copied: an open one of this machine, to `place`, which is no directory."""

    calls: FileCalls
    source: int
    place: RemotePlace
    keep: bool
    listener: CopyListener

    async def run(self) -> None:
        """Copy it.

        Raises:
            TrunklineError: the node does not take it, or could not be reached again in time.
            OSError: it cannot be read here.
        """
        resumption = Resumption()
        furthest = Furthest(resumption)
        while True:
            try:
                return await self._attempt(furthest)
            except TrunklineError as error:
                await wait_for_next(resumption, error, self.listener)

    async def _attempt(self, furthest: Furthest) -> None:
        status = os.fstat(self.source)
        offset, hasher = await self._agree(status.st_size)
        sending = _Sending(self.source, offset, status.st_size, hasher, furthest, self.listener)
        query: dict[str, str | int | None] = {
            "offset": offset,
            "prefix_sha256": hasher.hexdigest() if offset else None,
            "mode": f"{status.st_mode & 0o777:03o}",
            "mtime_ns": max(0, status.st_mtime_ns),
            "keep": "true" if self.keep else None,
            "size": status.st_size,
        }
        stored = await self.calls.put(self.place, sending.body(), query)
        if stored != hasher.hexdigest():
            raise BadResponse("the node has stored another file than was sent")

    async def _agree(self, size_bytes: int) -> tuple[int, hashlib._Hash]:
        """Return from where on to send, and the hash of what is before."""
        if size_bytes < WORTH_RESUMING_BYTES:
            return 0, hashlib.sha256()
        received = (await self.calls.target(self.place)).received_bytes
        offset = received if 0 < received <= size_bytes else 0
        if offset:
            self.listener.resumed(self.place.below or self.place.path, offset)
        try:
            return offset, await in_thread(hash_prefix, self.source, offset)
        except EOFError:  # it is shorter now
            return 0, hashlib.sha256()


@dataclass(slots=True)
class _Sending:
    """The body of one attempt: the file from an offset on, and the hash of the whole."""

    source: int
    offset: int
    end: int
    hasher: hashlib._Hash
    furthest: Furthest
    listener: CopyListener

    async def body(self) -> AsyncIterator[bytes]:
        while self.offset < self.end:
            piece = await in_thread(self._read)
            if not piece:
                break  # it is shorter now; what was read is what is sent
            yield piece
            self.furthest.at(self.offset)
            self.listener.moved(len(piece))
        yield self.hasher.digest()

    def _read(self) -> bytes:
        piece = os.pread(self.source, min(PIECE_BYTES, self.end - self.offset), self.offset)
        self.hasher.update(piece)
        self.offset += len(piece)
        return piece
