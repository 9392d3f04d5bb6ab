"""A file worker as the agent sees it: started as a user, asked, answered, and killed when there is any doubt."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self, TypeVar

import node_agent
from node_agent.commands.accounts import Account
from node_agent.files.failures import FileFailed
from node_agent.files.worker.frames import (
    HEADER,
    MOST_FRAME_BYTES,
    Document,
    FrameError,
    FrameKind,
    content_header,
    decode_document,
    decode_header,
    encode_document,
)

START_SECONDS = 20.0
SILENCE_SECONDS = 600.0
"""How long a worker may say nothing: a large file that goes to a slow disk takes its time."""
SOCKET_DESCRIPTOR = 3
T = TypeVar("T")

_PACKAGES = str(Path(node_agent.__file__).parent.parent)
_PROGRAM = "import sys; sys.path.append(sys.argv.pop(1)); from node_agent.files.worker.main import main; main()"


class WorkerGone(Exception):  # noqa: N818 - what happened
    """The worker has ended, or says nothing, or what is no answer; the message says which."""


class WorkerProcess:
    """One worker, whose process is `pid`; whoever holds it is the only one that does."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self._reader = reader
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._moved_at = self._loop.time()
        self._reaped: asyncio.Future[None] | None = None

    @classmethod
    async def start(cls, account: Account) -> Self:
        """Start a worker, and have it become the user.

        Raises:
            WorkerGone: it cannot be started, or cannot become the user.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                pid = _spawn(theirs)
            except OSError as error:
                ours.close()
                raise WorkerGone(f"a process that reads and writes files cannot be started: {error.strerror}") from None
        reader, writer = await asyncio.open_connection(sock=ours, limit=2 * MOST_FRAME_BYTES)
        worker = cls(pid, reader, writer)
        try:
            async with asyncio.timeout(START_SECONDS):
                await worker._become(account)
        except TimeoutError:
            await worker.end()
            raise WorkerGone("the process that reads and writes files does not start") from None
        except BaseException:
            await worker.end()
            raise
        return worker

    async def _become(self, account: Account) -> None:
        user = {"switched": account.switched, "uid": account.uid, "gid": account.gid, "groups": list(account.groups)}
        await self.ask(user)
        answer = await self.answer()
        if not isinstance(answer, dict) or not answer.get("ready"):
            raise WorkerGone(f"files cannot be read and written as {account.name}")

    async def ask(self, request: Document) -> None:
        """Say something."""
        self._moved_at = self._loop.time()
        await self._write(encode_document(request))

    async def give(self, content: bytes) -> None:
        """Hand over a piece of a file, as fast as the worker takes it."""
        for start in range(0, len(content), MOST_FRAME_BYTES):
            piece = content[start : start + MOST_FRAME_BYTES]
            await self._write(content_header(len(piece)) + piece)

    async def answer(self) -> bytes | Document:
        """Return the next piece of a file, or what the worker says.

        Raises:
            FileFailed: it says that it cannot do what it was asked for.
            WorkerGone: it says nothing more.
        """
        try:
            kind, size_bytes = decode_header(await self._patiently(self._reader.readexactly, HEADER.size))
            body = await self._patiently(self._reader.readexactly, size_bytes)
            if kind is FrameKind.CONTENT:
                return body
            document = decode_document(body)
        except (asyncio.IncompleteReadError, OSError):
            raise WorkerGone("the process that reads and writes files has ended") from None
        except FrameError as error:
            raise WorkerGone(str(error)) from None
        if "failed" in document:
            raise FileFailed.of(document)
        return document

    async def document(self) -> Document:
        """Return what it says next, which is no piece of a file; raises as `answer`."""
        if isinstance(answer := await self.answer(), bytes):
            raise WorkerGone("the process that reads and writes files says what is no answer")
        return answer

    async def done(self) -> Document:
        """Return how what it does ended; raises as `answer`."""
        while not (document := await self.document()).get("done"):
            pass
        return document

    async def say(self, request: Document) -> Document:
        """Ask for something whose answer is one document, and return that; raises as `answer`."""
        await self.ask(request)
        return await self.done()

    async def end(self) -> None:
        """Kill it, and wait until it is gone; one that waits for a file system that does not answer takes as long."""
        self._writer.close()
        if self._reaped is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._reaped = self._end_of(self.pid)
        await asyncio.shield(self._reaped)

    def _end_of(self, pid: int) -> asyncio.Future[None]:
        """Return what is done once the process is reaped: no thread waits for it, of which there are few."""
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:  # none is left
            return self._loop.run_in_executor(None, _reap, pid)
        reaped = self._loop.create_future()

        def ended() -> None:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
            _reap(pid)
            if not reaped.done():
                reaped.set_result(None)

        self._loop.add_reader(descriptor, ended)
        return reaped

    async def _write(self, content: bytes) -> None:
        try:
            self._writer.write(content)
            await self._patiently(self._writer.drain)
        except OSError:
            return  # what it said before it went is still to be heard

    async def _patiently(self, wait: Callable[..., Awaitable[T]], *arguments: int) -> T:
        """Wait for as long as the worker does anything at all, in either direction."""
        waiting = asyncio.ensure_future(wait(*arguments))
        try:
            while not waiting.done():
                left = self._moved_at + SILENCE_SECONDS - self._loop.time()
                if left <= 0:
                    raise WorkerGone("the node's file system does not answer")
                await asyncio.wait([waiting], timeout=left)
            self._moved_at = self._loop.time()
            return waiting.result()
        finally:
            waiting.cancel()


def _spawn(theirs: socket.socket) -> int:
    """Start the process; it finds nothing of the agent's environment, and no descriptor but its socket."""
    nothing = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    given = (os.POSIX_SPAWN_DUP2, theirs.fileno(), SOCKET_DESCRIPTOR)
    arguments = [sys.executable, "-I", "-S", "-X", "utf8", "-c", _PROGRAM, _PACKAGES, str(SOCKET_DESCRIPTOR)]
    return os.posix_spawn(sys.executable, arguments, {}, file_actions=[*nothing, given])


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
