"""A supervisor at work, as the agent sees it: started or found again, heard, told, and waited for."""

import asyncio
import contextlib
import errno
import os
import select
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from node_agent.supervisor.control import Lines, Message, encode
from node_agent.supervisor.launch import spawn
from node_agent.supervisor.plan import Plan
from node_agent.supervisor.records import CONTROL_SOCKET, SHORTAGES, open_directory
from node_agent.supervisor.tree import start_ticks

RECEIVE_BYTES = 64 * 1024
SEND_SECONDS = 30.0
SIZES = 4  # of stdout, what was dropped of it, and the same of stderr

Sizes = Callable[[list[int]], None]
Passed = Callable[[int, bool], None]
"""Hears how much of an input that follows was passed on to the program, and whether it can be given more."""


class SupervisorProcess:
    """One supervisor. `gone` is done once the process has ended; what it recorded is then on the disk.

    Attributes:
        pid: its number.
        started: what it says when the program runs, or None when it has gone without that.
        failed: why it could not even take the command, if it said so.
        over: whether nobody of the command is left, as it says; it then brings output and ending to the disk.
        gone: done when the process has ended.
        status: how it ended (negative for a signal), where this process is its parent.
    """

    def __init__(
        self, pid: int, pidfd: int, connected: socket.socket | None, sizes: Sizes, passed: Passed | None = None
    ) -> None:
        self.pid = pid
        self.failed: str | None = None
        self.over = False
        self.status: int | None = None
        self._pidfd = pidfd
        self._socket = connected
        self._sizes = sizes
        self._passed = passed
        self._lines = Lines()
        self._loop = asyncio.get_running_loop()
        self.started: asyncio.Future[Message | None] = self._loop.create_future()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(pidfd, self._on_exit)
        if connected is not None:
            connected.setblocking(False)
            self._loop.add_reader(connected, self._on_readable)

    @classmethod
    async def start(cls, directory: Path, plan: Plan, sizes: Sizes, passed: Passed | None = None) -> Self:
        """Start a supervisor, and hand it its plan; whether it takes the command is heard later.

        Raises:
            OSError: no process, or no descriptor, is left.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                pid = await asyncio.to_thread(spawn, str(directory), theirs)
            pidfd = os.pidfd_open(pid)
        except BaseException:
            ours.close()
            raise
        try:
            await asyncio.to_thread(_send, ours, plan)
        except OSError:  # it has died already, which is heard in a moment, or does not read: a part starts nothing
            with contextlib.suppress(OSError):
                ours.shutdown(socket.SHUT_RDWR)
        return cls(pid, pidfd, ours, sizes, passed)

    @classmethod
    def find(cls, directory: Path, claim: dict[str, Any], sizes: Sizes, passed: Passed | None = None) -> Self | None:
        """Return the supervisor that made the claim, or None if it has ended.

        Raises:
            OSError: that cannot be seen at the moment (`SHORTAGES`).
        """
        pid = claim.get("pid")
        if not isinstance(pid, int):
            return None
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            if error.errno in SHORTAGES:
                raise
            return None
        try:
            if _start_of(pid, pidfd) == claim.get("start_ticks"):
                return cls(pid, pidfd, _connected(directory, pid), sizes, passed)
        except OSError:
            os.close(pidfd)
            raise
        os.close(pidfd)
        return None

    def tell(self, message: Message) -> bool:
        """Say something to the supervisor; return whether it can hear it."""
        if self._socket is None:
            return False
        try:
            self._socket.sendall(encode(message))  # a few bytes, into an empty buffer
        except OSError:
            return False
        return True

    def stop(self, cause: str, reason: str | None, grace_seconds: float) -> None:
        """Have the command ended: TERM, and KILL once the grace is over; if it cannot be told so, by a signal."""
        if not self.tell({"stop": {"cause": cause, "reason": reason, "grace": grace_seconds}}):
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the supervisor itself, which does not do what it is there for."""
        self._signal(signal.SIGKILL)

    def leave(self) -> None:
        """Let it be: it goes on without this agent."""
        self._close_socket()
        if not self.gone.done():
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self.gone.cancel()
        self.started.cancel()

    def _signal(self, number: signal.Signals) -> None:
        if not self.gone.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def _on_exit(self) -> None:
        self._on_readable()  # what it said last
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._close_socket()
        with contextlib.suppress(ChildProcessError):  # one that was found again is somebody else's child
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        if not self.started.done():
            self.started.set_result(None)
        if not self.gone.done():
            self.gone.set_result(None)

    def _on_readable(self) -> None:
        try:
            content = self._socket.recv(RECEIVE_BYTES) if self._socket is not None else b""
            messages = self._lines.feed(content) if content else []
        except BlockingIOError:
            return
        except (OSError, ValueError):
            content, messages = b"", []
        if not content:
            self._close_socket()
        for message in messages:
            self._take(message)

    def _take(self, message: Message) -> None:
        """Take what it says; what is not understood is of another release."""
        output = message.get("output")
        if isinstance(output, list) and len(output) == SIZES and all(isinstance(size, int) for size in output):
            self._sizes(output)
        match message.get("stdin"):
            case [int(passed_bytes), bool(more)] if self._passed is not None:
                self._passed(passed_bytes, more)
        if isinstance(started := message.get("started"), dict) and not self.started.done():
            self.started.set_result(started)
        if isinstance(failed := message.get("failed"), str):
            self.failed = failed
        self.over = self.over or message.get("over") is True

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None


def _send(connected: socket.socket, plan: Plan) -> None:
    connected.settimeout(SEND_SECONDS)
    connected.sendall(plan.to_bytes())


def _start_of(pid: int, pidfd: int) -> int | None:
    """Return when a process started, or None if it has ended.

    Raises:
        OSError: it lives, and its start cannot be read: no descriptor is left.
    """
    ticks = start_ticks(pid)
    if ticks is None:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(0):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return ticks


def _connected(directory: Path, pid: int) -> socket.socket | None:
    """Return a connection to the supervisor, or None where its socket is gone: then only its end is heard.

    Raises:
        OSError: no descriptor is left.
    """
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        descriptor = open_directory(directory)
        try:
            connected.settimeout(1.0)
            connected.connect(f"/proc/self/fd/{descriptor}/{CONTROL_SOCKET.format(pid=pid)}")
        finally:
            os.close(descriptor)
    except OSError as error:
        connected.close()
        if error.errno in SHORTAGES:
            raise
        return None
    return connected
