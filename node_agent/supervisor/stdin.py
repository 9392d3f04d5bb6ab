"""The standard input of a command: nothing, something that was there at the start, or a file that still grows."""

import os
import selectors

from node_agent.supervisor.kernel import give_back
from node_agent.supervisor.plan import Plan
from node_agent.supervisor.records import STDIN_FILE

CHUNK_BYTES = 64 * 1024
# How much of what was passed on lies on the disk before its room is given back.
GIVE_BACK_BYTES = 8 * 1024 * 1024


def content_at_start(plan: Plan) -> int:
    """Return a descriptor from which the program reads all of its input; its end is the end.

    Raises:
        OSError: it cannot be made.
    """
    if plan.stdin is None:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(plan.stdin)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


class StdinFeed:
    """Passes the file `stdin` on to the program, as it grows and as the program reads.

    Attributes:
        reading: the end of the pipe that is the program's; `started` closes it here.
        passed_bytes: how much was passed on.
        open: whether the program can be given more.
    """

    def __init__(self, directory: int, selector: selectors.BaseSelector) -> None:
        """Open the file, and make the pipe.

        Raises:
            OSError: the file is not there, or no pipe can be made.
        """
        self._file = os.open(STDIN_FILE, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        self.reading, self._writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._writing, False)
        self._selector = selector
        self._total_bytes: int | None = None
        self._given_back_bytes = 0
        self.passed_bytes = 0
        self.open = True
        self._waiting = False

    def started(self) -> None:
        """Hear that the program has its end of the pipe."""
        os.close(self.reading)
        self.feed()

    def grown(self, total_bytes: int | None) -> None:
        """Hear that there may be more in the file; `total_bytes` is given once nothing follows that many bytes."""
        if total_bytes is not None:
            self._total_bytes = total_bytes
        self.feed()

    def feed(self) -> None:
        """Pass on what is there, as far as the program takes it."""
        try:
            while self.open and (chunk := os.pread(self._file, CHUNK_BYTES, self.passed_bytes)):
                self.passed_bytes += os.write(self._writing, chunk)
                self._give_back()
        except BlockingIOError:
            self._await_room(True)
            return
        except OSError:  # the program has closed its end, or the disk fails
            self.close()
            return
        self._await_room(False)
        if self._total_bytes is not None and self.passed_bytes >= self._total_bytes:
            self.close()

    def close(self) -> None:
        """End the input."""
        if self.open:
            self._await_room(False)
            self.open = False
            os.close(self._writing)
            os.close(self._file)

    def _give_back(self) -> None:
        """Give the room of what was passed on back to the disk, so that an input may be larger than that."""
        fresh = self.passed_bytes - self._given_back_bytes
        if fresh >= GIVE_BACK_BYTES:
            give_back(self._file, self._given_back_bytes, fresh)
            self._given_back_bytes = self.passed_bytes

    def _await_room(self, wanted: bool) -> None:
        if self.open and wanted and not self._waiting:
            self._selector.register(self._writing, selectors.EVENT_WRITE, lambda _: self.feed())
        elif self.open and self._waiting and not wanted:
            self._selector.unregister(self._writing)
        self._waiting = self.open and wanted
