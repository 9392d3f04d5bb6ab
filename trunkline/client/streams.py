"""Files of a node from and to pipes of this machine: what has passed cannot be had again, so less can be taken up."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable

from trunkline.client.copy_listener import CopyListener
from trunkline.client.downloads import ContentDiffers, blocks_of
from trunkline.client.errors import (
    ApiError,
    CallInterrupted,
    NodeUnknown,
    PermissionRefused,
    TrunklineError,
    Unauthenticated,
)
from trunkline.client.file_calls import FileCalls, RemotePlace
from trunkline.client.persistence import Furthest, wait_for_next
from trunkline.client.resumption import Resumption

NEW_MODE = "644"
REASON_PAUSE_SECONDS = 0.5
"""Relays learn at different moments of what a call was cut for."""
REASON_SECONDS = 5.0


async def stream_out(
    calls: FileCalls, place: RemotePlace, write: Callable[[bytes], Awaitable[None]], listener: CopyListener
) -> None:
    """Hand the content of a file to `write`, once and in order, whatever breaks on the way.

    Raises:
        ContentDiffers: what was handed over is not what the file holds; it cannot be taken back.
        TrunklineError: it cannot be had, or could not be reached again in time.
    """
    resumption, hasher, offset = Resumption(), hashlib.sha256(), 0
    furthest = Furthest(resumption)
    while True:
        try:
            if offset and await calls.digest(place, offset) != hasher.hexdigest():
                raise ContentDiffers("the file has changed while it was read; what was written of it is no whole")
            async with calls.content(place, offset) as content:
                range_hash, digest = hashlib.sha256(), b""
                async for body, digest in blocks_of(content, offset):  # noqa: B007 - the last one's
                    await write(body)
                    hasher.update(body)
                    range_hash.update(body)
                    offset += len(body)
                    furthest.at(offset)
                    listener.moved(len(body))
            if digest != range_hash.digest():
                raise ContentDiffers("what arrived is not what was sent")
            return
        except TrunklineError as error:
            await wait_for_next(resumption, error, listener)


async def stream_in(calls: FileCalls, pieces: AsyncIterable[bytes], place: RemotePlace, listener: CopyListener) -> None:
    """Send pieces until their end; nothing is in place before the whole is there.

    Raises:
        TrunklineError: the node does not take it, or the way to it broke; the reason where it was cut for one, since
            the node was locked say.
    """
    try:
        await calls.put(place, _hashed(pieces, listener), {"offset": 0, "mode": NEW_MODE})
    except CallInterrupted as error:
        raise await _refusal(calls, place) or error from None


async def _refusal(calls: FileCalls, place: RemotePlace) -> TrunklineError | None:
    """Return why the node takes no such call any more, or None: it does, or there is no answer."""
    await asyncio.sleep(REASON_PAUSE_SECONDS)
    try:
        async with asyncio.timeout(REASON_SECONDS):
            await calls.target(place)
    except (ApiError, NodeUnknown, PermissionRefused, Unauthenticated) as refusal:
        return refusal
    except (TrunklineError, TimeoutError):
        return None
    return None


async def _hashed(pieces: AsyncIterable[bytes], listener: CopyListener) -> AsyncIterator[bytes]:
    hasher = hashlib.sha256()
    async for piece in pieces:
        hasher.update(piece)
        yield piece
        listener.moved(len(piece))
    yield hasher.digest()
