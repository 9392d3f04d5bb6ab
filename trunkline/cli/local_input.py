"""Our own standard input, as it is given to a remote command: whole with the submit if it is small, else as it comes.

Nothing is read but what is asked for, and only when it is there: what is typed or written after the command has ended
stays for whoever comes next, such as the shell of a terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import select
import sys
import time
from collections.abc import AsyncIterator

from trunkline.cli.exits import CommandFailed

LARGEST_WHOLE_BYTES = 524_288
# How long the end of a small input is waited for, until it is taken for one that goes on.
WHOLE_SECONDS = 1.0
_PIECE_BYTES = 262_144


class LocalInput:
    """What is read of a descriptor: a beginning at once, the rest as it comes.

    Attributes:
        beginning: the first bytes.
        ended: whether they are all.
    """

    def __init__(self, descriptor: int, beginning: bytes, *, ended: bool) -> None:
        self._descriptor = descriptor
        self.beginning = beginning
        self.ended = ended

    def behind(self, content: bytes) -> LocalInput:
        """This input behind other bytes."""
        return LocalInput(self._descriptor, content + self.beginning, ended=self.ended)

    async def pieces(self) -> AsyncIterator[bytes]:
        """All of it, the beginning too.

        Raises:
            OSError: it cannot be read.
        """
        if self.beginning:
            yield self.beginning
        while not self.ended:
            piece = await _next_piece(self._descriptor)
            if not piece:
                return
            yield piece


def read_beginning(*, to_its_end: bool) -> LocalInput:
    """Read our standard input to its end, or until it is larger than `LARGEST_WHOLE_BYTES`, or slow.

    Args:
        to_its_end: wait for the end, however slow; what is too large is refused.

    Raises:
        CommandFailed: it is too large to be sent whole, or cannot be read.
    """
    try:
        found = _beginning(time.monotonic() + WHOLE_SECONDS if not to_its_end else None)
    except OSError as error:
        raise CommandFailed(f"standard input cannot be read: {error.strerror}", os.EX_NOINPUT) from None
    if to_its_end and not found.ended:
        message = f"standard input is larger than {LARGEST_WHOLE_BYTES} bytes: only one --node can be sent it, attached"
        raise CommandFailed(message, os.EX_DATAERR)
    return found


def _beginning(deadline: float | None) -> LocalInput:
    try:
        descriptor = sys.stdin.fileno()
    except io.UnsupportedOperation:  # no file, but what stands for one in a program that embeds us
        content = sys.stdin.buffer.read(LARGEST_WHOLE_BYTES + 1)
        return LocalInput(-1, content, ended=len(content) <= LARGEST_WHOLE_BYTES)
    content = bytearray()
    while len(content) <= LARGEST_WHOLE_BYTES and _readable(descriptor, deadline):
        piece = os.read(descriptor, LARGEST_WHOLE_BYTES + 1 - len(content))
        if not piece:
            return LocalInput(descriptor, bytes(content), ended=True)
        content += piece
    return LocalInput(descriptor, bytes(content), ended=False)


def _readable(descriptor: int, deadline: float | None) -> bool:
    left_seconds = None if deadline is None else max(0.0, deadline - time.monotonic())
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if left_seconds is None else left_seconds * 1000))


async def _next_piece(descriptor: int) -> bytes:
    """Read once there is something; a file always has, and is read on a thread, since a disk may be slow."""
    loop = asyncio.get_running_loop()
    readable = loop.create_future()

    def found() -> None:
        if not readable.done():
            readable.set_result(None)

    try:
        loop.add_reader(descriptor, found)
    except PermissionError:  # epoll(7) takes no regular files
        return await asyncio.to_thread(os.read, descriptor, _PIECE_BYTES)
    try:
        await readable
    finally:
        loop.remove_reader(descriptor)
    with contextlib.suppress(BlockingIOError):  # somebody else was faster
        return os.read(descriptor, _PIECE_BYTES)
    return await _next_piece(descriptor)
