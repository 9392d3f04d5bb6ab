"""How far a copying is: one line on a terminal that changes, and lines about what went wrong everywhere."""

from __future__ import annotations

import sys
import time

from trunkline.cli.exits import line_of
from trunkline.client.copy_listener import CopyListener
from trunkline.client.errors import TrunklineError
from trunkline.files.names import shown

REFRESH_SECONDS = 0.2
CUT_SECONDS = 10.0
"""Breaks are told once in so long: several files may meet the same, and each tries often."""
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


class CopyDisplay:
    """Tells on standard error; `quiet` leaves only what went wrong."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live = not quiet and sys.stderr.isatty()
        self._drawn_at = 0.0
        self._began_at = time.monotonic()
        self._moved_bytes = 0
        self._known_bytes = 0
        self._path = ""
        self._cut_at = -CUT_SECONDS

    def listener(self) -> CopyListener:
        """What the copying tells."""
        return CopyListener(
            begun=self._begun,
            moved=self._moved,
            resumed=self._resumed,
            left_out=self._left_out,
            cut=self._cut,
        )

    def finish(self, files: int) -> None:
        """Say what was done."""
        if not self._quiet:
            seconds = time.monotonic() - self._began_at
            noun = "file" if files == 1 else "files"
            self._say(f"{files} {noun}, {size_text(self._moved_bytes)} in {seconds:.1f} s", prefix="")

    def _begun(self, path: str, size_bytes: int) -> None:
        self._path = path
        self._known_bytes += size_bytes
        self._draw()

    def _moved(self, size_bytes: int) -> None:
        self._moved_bytes += size_bytes
        self._draw()

    def _resumed(self, path: str, offset: int) -> None:
        self._known_bytes -= min(offset, self._known_bytes)
        if not self._quiet:
            self._say(f"{shown(path)}: goes on at {size_text(offset)}")

    def _left_out(self, path: str, reason: str) -> None:
        self._say(f"{shown(path)} was left out: {shown(reason)}")

    def _cut(self, error: TrunklineError) -> None:
        now = time.monotonic()
        if now - self._cut_at >= CUT_SECONDS:
            self._cut_at = now
            self._say(f"{line_of(error)}; trying again")

    def _say(self, line: str, *, prefix: str = "trunkline: ") -> None:
        sys.stderr.write(f"{self._erased()}{prefix}{line}\n")
        sys.stderr.flush()

    def _draw(self) -> None:
        now = time.monotonic()
        if not self._live or now - self._drawn_at < REFRESH_SECONDS:
            return
        self._drawn_at = now
        rate = self._moved_bytes / max(now - self._began_at, 0.001)
        share = f"{min(100, 100 * self._moved_bytes // self._known_bytes)} %, " if self._known_bytes else ""
        so_far = f"{share}{size_text(self._moved_bytes)}, {size_text(int(rate))}/s"
        sys.stderr.write(f"{self._erased()}{shown(self._path)[-48:]}  {so_far}")
        sys.stderr.flush()

    def _erased(self) -> str:
        return "\r\x1b[K" if self._live else ""


def size_text(size_bytes: int) -> str:
    """A size as people read it."""
    size, unit = float(size_bytes), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit else f"{size_bytes} bytes"
