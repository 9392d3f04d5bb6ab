"""The two pipes that a command writes to, and how they reach its spools: masked, bounded, and never in its way."""

import contextlib
import fcntl
import os
import selectors
import time

from node_agent.supervisor.redaction import Redactor
from node_agent.supervisor.spool import SpoolWriter

CHUNK_BYTES = 64 * 1024
PIPE_BYTES = 1024 * 1024
# A pipe holds at most 1 MiB (fs.pipe-max-size), which is this many reads.
CLOSING_READS = 16
# What is only dropped is read at this pace, 64 KiB each time: nobody needs a processor for it.
DROPPING_PAUSE_SECONDS = 0.001


class Output:
    """The reading end of one pipe.

    When the disk does not take what is written, the pipe is closed: the command is told by the failure of its next
    write (EPIPE, and SIGPIPE unless it ignores that), as if it wrote to a file on that disk.

    Attributes:
        writing: the end of the pipe that is the program's; `started` closes it here.
        ended: whether nothing follows.
    """

    def __init__(
        self, directory: int, name: str, selector: selectors.BaseSelector, max_bytes: int, patterns: tuple[bytes, ...]
    ) -> None:
        """Make the pipe and the spool.

        Raises:
            OSError: the disk does not take the spool, or no descriptor is left.
        """
        self.spool = SpoolWriter(directory, name, max_bytes=max_bytes)
        self._redactor = Redactor(patterns) if patterns else None
        self._reading, self.writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reading, False)
        with contextlib.suppress(OSError):  # users have a bound on the memory in pipes
            fcntl.fcntl(self._reading, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._selector = selector
        self._rests_until: float | None = None
        self.ended = False

    def started(self) -> None:
        """Hear that the program has its end of the pipe."""
        os.close(self.writing)
        self._selector.register(self._reading, selectors.EVENT_READ, lambda _: self._on_readable())

    @property
    def rests_until(self) -> float | None:
        """When reading goes on (monotonic seconds), or None if it does not rest."""
        return self._rests_until

    def wake(self, now: float) -> None:
        """Go on reading if it is time to."""
        if self._rests_until is not None and now >= self._rests_until:
            self._rests_until = None
            self._selector.register(self._reading, selectors.EVENT_READ, lambda _: self._on_readable())

    def finish(self) -> None:
        """Take what is in the pipe now, give it up, and bring the spool to the disk."""
        for _ in range(CLOSING_READS):
            if self.ended or not self._read():
                break
        self._end()
        self.spool.finish()

    def _on_readable(self) -> None:
        self._read()
        if self.spool.dropping and not self.ended:
            self._selector.unregister(self._reading)
            self._rests_until = time.monotonic() + DROPPING_PAUSE_SECONDS

    def _read(self) -> bool:
        try:
            chunk = os.read(self._reading, CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            self._end()
            return False
        self._keep(chunk if self._redactor is None else self._redactor.feed(chunk))
        return True

    def _keep(self, chunk: bytes) -> None:
        if chunk:
            self.spool.append(chunk)
        if self.spool.refused is not None:
            self._end()

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        if self._rests_until is None:
            self._selector.unregister(self._reading)
        self._rests_until = None
        os.close(self._reading)
        if self._redactor is not None and (rest := self._redactor.finish()):
            self.spool.append(rest)
