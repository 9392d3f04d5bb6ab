"""The files that hold kept outputs: one a command, whole or not there; every call works on the disk, off the loop."""

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from control_plane.storage.commands import CommandKey
from trunkline.runtime.files import write_atomic

AT_ONCE = 500


class OutputFiles:
    """Files below one directory; their names are ids, which hold no separators and do not begin with a dot."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, key: CommandKey, content: bytes) -> None:
        """Write a command's file, durably.

        Raises:
            OSError: the disk does not take it; nothing is left over.
        """
        path = self._path(key)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, content)

    def read(self, key: CommandKey, offset: int, size_bytes: int) -> bytes:
        """Read a piece of a command's file.

        Raises:
            OSError: the file is gone, or cannot be read.
        """
        descriptor = os.open(self._path(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.pread(descriptor, size_bytes, offset)
        finally:
            os.close(descriptor)

    def remove(self, keys: Iterable[CommandKey]) -> None:
        """Remove the files of these commands, as far as they are there."""
        for key in keys:
            with contextlib.suppress(OSError):
                self._path(key).unlink()

    def pieces(self) -> Iterator[list[CommandKey]]:
        """Yield of which commands there are files, `AT_ONCE` of one workspace at a time; empty directories go.

        Whoever asks may remove what was yielded before.
        """
        with contextlib.suppress(OSError):
            for directory in list(self._directory.iterdir()):
                with os.scandir(directory) as entries:
                    names = (entry.name for entry in entries)
                    while piece := [CommandKey(directory.name, name) for name in itertools.islice(names, AT_ONCE)]:
                        yield piece
                with contextlib.suppress(OSError):  # there is something in it
                    directory.rmdir()

    def _path(self, key: CommandKey) -> Path:
        return self._directory / key.workspace_id / key.command_id
