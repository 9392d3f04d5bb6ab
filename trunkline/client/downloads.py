"""One file of a node, copied to a directory of this machine.

Theory of operation. What has arrived lies in a partial file. An attempt first agrees with the node on it: both hash so
much of the file, and if they differ it is begun anew. Then the rest is asked for, from that offset on; behind it comes
the hash of just these bytes. So each byte that is put in place was compared by its hash with what the node has read,
whoever has broken off in between. Nothing that the node says decides where anything is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from trunkline.client.copy_listener import CopyListener
from trunkline.client.errors import ApiError, BadResponse, TrunklineError
from trunkline.client.file_calls import FileCalls, RemoteContent, RemotePlace
from trunkline.client.persistence import Furthest, wait_for_next
from trunkline.client.resumption import Resumption
from trunkline.files.digests import DIGEST_BYTES
from trunkline.files.partial import PartialFile, mode_of_new
from trunkline.runtime.threads import in_thread

PIECE_BYTES = 1024 * 1024
MOST_UNSIZED_BYTES = 1024**3
"""A file that has no size, as those of /proc, is not taken beyond this."""


class ContentDiffers(TrunklineError):  # noqa: N818 - named for what happened
    """What arrived is not what was sent; the target is as it was."""


@dataclass(frozen=True, slots=True)
class Download:
    """One file to be copied: from `place`, as `name` in `directory`, an open one; `umask` is this process's."""

    calls: FileCalls
    place: RemotePlace
    directory: int
    name: str
    keep: bool
    umask: int
    listener: CopyListener

    async def run(self) -> None:
        """Copy it.

        Raises:
            TrunklineError: it cannot be had, or could not be reached again in time.
            PartialBusy: another transfer to the same place is going on here.
            OSError: it cannot be written here.
        """
        with PartialFile.open(self.directory, self.name) as partial:  # in no thread: it must be closed whatever ends us
            try:
                await self._fetch(partial)
            except OSError:
                await in_thread(partial.discard)  # most often the disk is full
                raise

    async def _fetch(self, partial: PartialFile) -> None:
        resumption = Resumption()
        furthest = Furthest(resumption)
        await in_thread(partial.rehash)
        while True:
            try:
                await self._agree(partial)
                return await self._attempt(partial, furthest)
            except TrunklineError as error:
                await wait_for_next(resumption, error, self.listener)

    async def _agree(self, partial: PartialFile) -> None:
        """Begin anew if what is here is not the beginning of the file."""
        if not partial.size_bytes:
            await in_thread(partial.restart)
            return
        try:
            same = await self.calls.digest(self.place, partial.size_bytes) == partial.digest.hex()
        except ApiError as error:
            if error.status != 416:
                raise
            same = False
        if same:
            self.listener.resumed(self.place.below or self.place.path, partial.size_bytes)
        else:
            await in_thread(partial.restart)

    async def _attempt(self, partial: PartialFile, furthest: Furthest) -> None:
        async with self.calls.content(self.place, partial.size_bytes) as content:
            range_hash, digest = hashlib.sha256(), b""
            async for body, digest in blocks_of(content, partial.size_bytes):  # noqa: B007 - the last one's
                if body:
                    await in_thread(_append, partial, range_hash, body)
                    furthest.at(partial.size_bytes)
                    self.listener.moved(len(body))
        if digest != range_hash.digest():
            await in_thread(partial.discard)
            raise ContentDiffers("what arrived is not what was sent; the target is as it was")
        entry = content.entry
        mode = mode_of_new(self.name, self.directory, entry.mode, keep=self.keep, umask=self.umask)
        mtime_ns = entry.mtime_ns if self.keep else None
        await in_thread(partial.commit, partial.digest, mode=mode, mtime_ns=mtime_ns)


def _append(partial: PartialFile, range_hash: hashlib._Hash, content: bytes) -> None:
    partial.append(content)
    range_hash.update(content)


def blocks_of(content: RemoteContent, offset: int) -> AsyncIterator[tuple[bytes, bytes]]:
    """Blocks of content with what stood behind each: behind the last its hash, behind the others nothing.

    Raises:
        BadResponse: there is more than the node has said, or no hash.
    """
    return _blocks(_bounded(content, offset))


async def _bounded(content: RemoteContent, offset: int) -> AsyncIterator[bytes]:
    """The pieces, no more than the node has said that there are."""
    size = content.entry.size_bytes
    left = (size - offset if size else MOST_UNSIZED_BYTES) + DIGEST_BYTES
    async for piece in content.pieces:
        left -= len(piece)
        if left < 0:
            raise BadResponse("the node sends more than the file has")
        yield piece


async def _blocks(pieces: AsyncIterator[bytes]) -> AsyncIterator[tuple[bytes, bytes]]:
    held = bytearray()
    try:
        async for piece in pieces:
            held += piece
            if len(held) >= PIECE_BYTES + DIGEST_BYTES:
                yield bytes(held[:-DIGEST_BYTES]), b""
                del held[:-DIGEST_BYTES]
    except TrunklineError:
        # What has come is good to go on from, so that a way that breaks often gets somewhere all the same.
        if len(held) > DIGEST_BYTES:
            yield bytes(held[:-DIGEST_BYTES]), b""
        raise
    if len(held) < DIGEST_BYTES:
        raise BadResponse("the file ended without its hash")
    yield bytes(held[:-DIGEST_BYTES]), bytes(held[-DIGEST_BYTES:])
