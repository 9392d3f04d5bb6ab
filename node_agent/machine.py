"""What the machine says of itself: load, memory, disk, pressure, boot time."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from trunkline.runtime.clock import Clock

PRESSURE_DIRECTORY = Path("/proc/pressure")
RESOURCES = ("cpu", "memory", "io")
# A reading is shared by whoever asks within this time, so that asking often costs little.
FRESH_SECONDS = 0.5
LEAST_FREE_BYTES = 256 * 1024
"""Of the disk; with less it is taken for full."""
LEAST_FREE_FILES = 16
"""The same of its inodes, where the file system counts them."""

_PRESSURE_LINE = re.compile(r"(some|full) avg10=([0-9.]+) avg60=([0-9.]+) avg300=([0-9.]+) ")


@dataclass(frozen=True, slots=True)
class Reading:
    """The state of the machine at one moment; sizes in bytes, pressure as the percentage of time stalled."""

    load: tuple[float, float, float]
    memory_total_bytes: int
    memory_available_bytes: int
    disk_total_bytes: int
    disk_free_bytes: int
    pressure: dict[str, dict[str, dict[str, float]] | None]

    def document(self) -> dict[str, Any]:
        """Return the reading as the API shows it."""
        return {
            "load": list(self.load),
            "memory": {"total_bytes": self.memory_total_bytes, "available_bytes": self.memory_available_bytes},
            "disk": {"total_bytes": self.disk_total_bytes, "free_bytes": self.disk_free_bytes},
            "pressure": self.pressure,
        }


class Machine:
    """Reads the machine, at most once in `FRESH_SECONDS`; the disk is the one that holds `directory`."""

    def __init__(self, directory: Path, clock: Clock, *, pressure_directory: Path = PRESSURE_DIRECTORY) -> None:
        self._directory = directory
        self._clock = clock
        self._pressure_directory = pressure_directory
        self._reading: Reading | None = None
        self._read_at = 0.0
        self.boot_time = psutil.boot_time()

    def read(self) -> Reading:
        """Return a reading that is fresh enough, or the last one where there are no descriptors for another.

        Raises:
            OSError: there was none yet.
        """
        now = self._clock.monotonic()
        if self._reading is None or now - self._read_at >= FRESH_SECONDS:
            try:
                self._reading = self._read()
            except OSError:
                if self._reading is None:
                    raise
            self._read_at = now
        return self._reading

    def remark(self) -> str | None:
        """What an operator should know of the disk; None while it has room, or cannot be asked."""
        try:
            disk = os.statvfs(self._directory)
        except OSError:
            return None
        fault = disk_fault(disk)
        if fault is None:
            return None
        return f"the disk that holds the state directory {fault}: commands are refused, and their output is dropped"

    def _read(self) -> Reading:
        memory = psutil.virtual_memory()
        disk = shutil.disk_usage(self._directory)
        return Reading(
            load=os.getloadavg(),
            memory_total_bytes=memory.total,
            memory_available_bytes=memory.available,
            disk_total_bytes=disk.total,
            disk_free_bytes=disk.free,
            pressure={name: self._pressure(name) for name in RESOURCES},
        )

    def _pressure(self, resource: str) -> dict[str, dict[str, float]] | None:
        """Return what the kernel says of one resource, or None where it does not keep count (PSI is off)."""
        try:
            text = (self._pressure_directory / resource).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            return None
        return {
            kind: {"avg10": float(ten), "avg60": float(sixty), "avg300": float(three_hundred)}
            for kind, ten, sixty, three_hundred in _PRESSURE_LINE.findall(text)
        }


def disk_fault(disk: os.statvfs_result) -> str | None:
    """Say why a file system takes nothing new; None where it does."""
    if disk.f_flag & os.ST_RDONLY:
        return "is read-only"
    if disk.f_bavail * disk.f_frsize < LEAST_FREE_BYTES:
        return "is full"
    if disk.f_files and disk.f_favail < LEAST_FREE_FILES:
        return "has no inodes left"
    return None
