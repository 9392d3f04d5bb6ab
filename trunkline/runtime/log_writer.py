"""Writes a daemon's log behind its back: whoever reads the log, and stops reading, holds up nothing but the log.

A pipe that nobody empties, a journal that stands still, a terminal that was stopped: to write there waits for as long
as they please, and a daemon that waited itself would answer nobody, nor cut what is revoked. So lines are handed to a
thread, up to a bound; beyond it they are lost and counted, and the number is said in a line once lines are taken again.
"""

import logging
import os
import select
import threading
import time
from collections import deque
from typing import Final, TextIO

MOST_WAITING_BYTES: Final = 1024 * 1024
LATE_SECONDS: Final = 1.0
"""A line that has waited for so long is worth a remark."""
FLUSH_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 0.1


class LogWriter(logging.Handler):
    """Hands each record's line to a thread that writes it to a descriptor."""

    def __init__(self, stream: TextIO) -> None:
        """Begin; `stream` has a descriptor, and nobody else's buffered text is in it.

        Raises:
            RuntimeError: the system has no thread to give.
            OSError: the stream has no descriptor.
        """
        super().__init__()
        self._descriptor = stream.fileno()
        self._changed = threading.Condition()
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._waiting_bytes = 0
        self._lost = 0
        self._told_lost = 0
        self._closed = False
        threading.Thread(target=self._run, name="trunkline-log", daemon=True).start()

    @property
    def lost(self) -> int:
        """How many lines were lost."""
        return self._lost

    def remark(self) -> str | None:
        """What an operator should know; None while lines are taken."""
        with self._changed:
            waiting, since = len(self._waiting), self._waiting[0][1] if self._waiting else None
            untold = self._lost - self._told_lost
        if untold == 0 and (since is None or time.monotonic() - since < LATE_SECONDS):
            return None
        return f"nobody takes what is logged: {waiting} lines wait, and {untold} are lost"

    def emit(self, record: logging.LogRecord) -> None:
        """Have the record's line written; it never waits."""
        try:
            line = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
        except Exception:  # noqa: BLE001 - as every handler of the standard library does
            self.handleError(record)
            return
        with self._changed:
            if self._closed or self._waiting_bytes + len(line) > MOST_WAITING_BYTES:
                self._lost += 1
                return
            self._waiting.append((line, time.monotonic()))
            self._waiting_bytes += len(line)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all lines are written, for a moment at most; called at the end of the process too."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, FLUSH_SECONDS)

    def close(self) -> None:
        """Take no more lines; the thread ends when it has written those that it can."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        super().close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                line = self._waiting[0][0]
            written = self._write(line)
            with self._changed:
                self._waiting.popleft()  # only now: until then it waits
                self._waiting_bytes -= len(line)
                self._lost += 0 if written else 1
                untold = self._lost - self._told_lost if written else 0
                self._told_lost += untold
                self._changed.notify_all()
            if untold:
                logging.getLogger(__name__).warning("log.lines_lost: %d, which nobody took", untold)

    def _write(self, line: bytes) -> bool:
        """Write a line, however long that takes; False if it cannot be: a full disk, a pipe without a reader."""
        left = memoryview(line)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # another process has made what we share with it non-blocking
                select.select([], [self._descriptor], [], RETRY_SECONDS)
            except OSError:
                return False
        return True


def log_writer() -> LogWriter | None:
    """Return what writes this process's log; None where nothing does it in the background."""
    return next((handler for handler in logging.getLogger().handlers if isinstance(handler, LogWriter)), None)


def log_remark() -> str | None:
    """Return what there is to remark of this process's log."""
    writer = log_writer()
    return None if writer is None else writer.remark()
