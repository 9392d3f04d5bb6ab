"""What a command writes on one stream, kept in a file, with a second file that says when.

The file `<stream>.times` is a row of entries of `ENTRY`: an offset and a time, in milliseconds since the epoch. The
bytes from that offset on, up to the next entry's, were read at that time or later, before the next entry's time. An
entry is made at most every `FIRST_INTERVAL_MS`; each time that `ENTRIES_PER_INTERVAL` have been made the interval is
doubled, which keeps the file small however long the command runs. The times never go backwards, whatever clocks do.
"""

import contextlib
import os
import struct
import time

TIMES_SUFFIX = ".times"
ENTRY = struct.Struct("<QQ")
FIRST_INTERVAL_MS = 100
ENTRIES_PER_INTERVAL = 4096

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class SpoolWriter:
    """Keeps one stream.

    Bytes beyond `max_bytes`, and those that the disk did not take, are dropped and counted: after the first dropped
    byte nothing is appended any more, so that what is kept is a true beginning of what was written.

    Attributes:
        refused: why the disk did not take a write, None while it takes all.
    """

    def __init__(self, directory: int, name: str, *, max_bytes: int) -> None:
        """Make the files.

        Raises:
            OSError: the disk does not take them.
        """
        self._max_bytes = max_bytes
        self._descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=directory)
        self._times = _Times(directory, name)
        self.size_bytes = 0
        self.dropped_bytes = 0
        self.refused: str | None = None

    @property
    def dropping(self) -> bool:
        """Whether nothing more is kept."""
        return self.dropped_bytes > 0

    def append(self, chunk: bytes) -> None:
        """Keep what was written, as far as the bound and the disk allow."""
        room = 0 if self.dropped_bytes else self._max_bytes - self.size_bytes
        kept = self._write(chunk[:room]) if room > 0 else 0
        if kept:
            self._times.note(self.size_bytes)
            self.size_bytes += kept
        self.dropped_bytes += len(chunk) - kept

    def finish(self) -> None:
        """Bring everything to the disk, and close the files."""
        with contextlib.suppress(OSError):
            os.fdatasync(self._descriptor)
        os.close(self._descriptor)
        self._times.close()

    def _write(self, chunk: bytes) -> int:
        written = 0
        try:
            while written < len(chunk):
                written += os.write(self._descriptor, chunk[written:] if written else chunk)
        except OSError as error:  # a full disk; what was written before stays
            self.refused = error.strerror or type(error).__name__
        return written


class _Times:
    def __init__(self, directory: int, name: str) -> None:
        self._descriptor = os.open(name + TIMES_SUFFIX, _NEW_FILE, 0o600, dir_fd=directory)
        self._started_ms = int(time.time() * 1000)
        self._started_monotonic = time.monotonic()
        self._interval_ms = FIRST_INTERVAL_MS
        self._next_ms = 0
        self._entries = 0

    def note(self, offset: int) -> None:
        elapsed_ms = int((time.monotonic() - self._started_monotonic) * 1000)
        if elapsed_ms < self._next_ms:
            return
        with contextlib.suppress(OSError):  # the output itself counts
            os.write(self._descriptor, ENTRY.pack(offset, self._started_ms + elapsed_ms))
        self._next_ms = elapsed_ms + self._interval_ms
        self._entries += 1
        if self._entries % ENTRIES_PER_INTERVAL == 0:
            self._interval_ms *= 2

    def close(self) -> None:
        os.close(self._descriptor)
