"""The near side of a remote shell: our standard input, output and error, and what is said about the connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator

from trunkline.cli.escapes import EscapeFilter
from trunkline.cli.exits import line_of
from trunkline.cli.patient_output import passed, patient
from trunkline.client.errors import TrunklineError
from trunkline.client.shells import AWAY_SECONDS, RemoteShell

PIECE_BYTES = 32_768
_LEAST_ROOM_BYTES = 2  # a held escape character and the one behind it


class LocalSide:
    """Feeds a remote shell with our input while it has room for it, and shows what it says."""

    def __init__(self, *, raw: bool) -> None:
        """`raw` says that our input is a terminal that passes every key on, the escape among them."""
        self._raw = raw
        self._escapes = EscapeFilter()
        self._input = sys.stdin.fileno()
        self._output, self._error = patient(sys.stdout.buffer), patient(sys.stderr.buffer)
        self._watched = False
        self._watchable = True
        self._ended = False
        self._was_cut = False
        self.left = False

    @contextlib.contextmanager
    def serving(self, shell: RemoteShell) -> Iterator[None]:
        """Be the side of this shell inside the block."""
        self._loop = asyncio.get_running_loop()
        self._shell = shell
        self.read_on()
        try:
            yield
        finally:
            self._ended = True
            self._watch(wanted=False)

    async def show(self, content: bytes, is_error: bool) -> None:
        """Write output; a terminal or pipe that takes nothing holds up the shell, and nothing else.

        Raises:
            BrokenPipeError: whoever read it has gone.
        """
        destination = self._error if is_error else self._output
        destination.write(content)
        await passed(destination)

    def read_on(self) -> None:
        """Read our input if there is room for it at the other end."""
        if not self._ended:
            self._watch(wanted=self._shell.room_bytes >= _LEAST_ROOM_BYTES)

    def cut(self, error: TrunklineError) -> None:
        """Say that the connection was cut."""
        self._was_cut = True
        keys = ", ~. to leave" if self._raw else ""
        self.tell(f"{line_of(error)}; trying again for {AWAY_SECONDS:g} s{keys}")

    def attached(self) -> None:
        """Say that it is there again."""
        if self._was_cut:
            self._was_cut = False
            self.tell("connected again")

    def tell(self, line: str) -> None:
        """Say something to the user, beside what the shell shows."""
        start, end = ("\r\n", "\r\n") if self._raw else ("", "\n")
        self._error.write(f"{start}trunkline: {line}{end}".encode())

    def _watch(self, *, wanted: bool) -> None:
        if wanted == self._watched:
            return
        self._watched = wanted
        if not self._watchable:
            if wanted:
                self._loop.call_soon(self._read)
        elif not wanted:
            self._loop.remove_reader(self._input)
        else:
            self._start_watching()

    def _start_watching(self) -> None:
        try:
            self._loop.add_reader(self._input, self._read)
        except PermissionError:  # epoll takes no files: those can be read at any time
            self._watchable = False
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        if not self._watched:
            return
        if not self._watchable:
            self._watched = False
        try:
            content = os.read(self._input, min(self._shell.room_bytes - 1, PIECE_BYTES))
        except OSError:  # EIO: the terminal is gone
            content = b""
        if content:
            self._type(content)
        else:
            self._end()
        self.read_on()

    def _type(self, content: bytes) -> None:
        leaves = False
        if self._raw:
            content, leaves = self._escapes.feed(content)
        self._shell.write(content)
        if leaves:
            self.left = True
            self._shell.leave()

    def _end(self) -> None:
        self._ended = True
        self._watch(wanted=False)
        if self._raw:
            self._shell.leave()
        else:
            self._shell.end_input()
