"""The command line on a terminal of its own, driven as a person does it: keys in, and what is shown looked at."""

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from types import TracebackType
from typing import Self

STEP_SECONDS = 0.05


class Terminal:
    """A program on a new terminal; `shown` is everything that it has shown."""

    def __init__(self, command: list[str], *, rows: int = 24, columns: int = 80) -> None:
        self._master, slave = os.openpty()
        self.resize(rows, columns)
        self.attributes = termios.tcgetattr(self._master)
        environment = os.environ | {"TERM": "vt100"}
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=environment
        )
        os.close(slave)
        self.shown = b""

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize_and_tell(self, rows: int, columns: int) -> None:
        """As a terminal emulator does; the program is not in the foreground of a session here, so it is told."""
        self.resize(rows, columns)
        self.process.send_signal(signal.SIGWINCH)

    def until(self, pattern: bytes, seconds: float = 30.0) -> re.Match[bytes]:
        """Wait until something matches in what is shown from now on; what is before its end is not looked at again."""
        end = time.monotonic() + seconds
        while (found := re.search(pattern, self.shown)) is None:
            if time.monotonic() > end:
                raise AssertionError(f"{pattern!r} is not shown within {seconds} s, but {self.shown[-2000:]!r}")
            self._read()
        self.shown = self.shown[found.end() :]
        return found

    def end(self, seconds: float = 30.0) -> int:
        """Wait for the program's end; returns its exit status."""
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            self._read()
        return self.process.wait(timeout=1)

    @property
    def restored(self) -> bool:
        """Whether the terminal is as it was before the program."""
        return termios.tcgetattr(self._master) == self.attributes

    def _read(self) -> None:
        if select.select([self._master], [], [], STEP_SECONDS)[0]:
            with contextlib.suppress(OSError):
                self.shown += os.read(self._master, 65536)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)
