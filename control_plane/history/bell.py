"""The bell that wakes those who follow a command's events, once there is something to read."""

import asyncio
import contextlib
from collections.abc import Iterator

from control_plane.storage.commands import CommandKey


class Bell:
    """Rings for single commands; whoever listens reads the table again when it rings."""

    def __init__(self) -> None:
        self._listeners: dict[CommandKey, set[asyncio.Event]] = {}

    def ring(self, key: CommandKey) -> None:
        """Wake all who listen for this command."""
        for rung in self._listeners.get(key, ()):
            rung.set()

    @contextlib.contextmanager
    def listening(self, key: CommandKey) -> Iterator[asyncio.Event]:
        """Give what is set at each ring inside the block; clear it before reading, so that no ring is missed."""
        rung = asyncio.Event()
        listeners = self._listeners.setdefault(key, set())
        listeners.add(rung)
        try:
            yield rung
        finally:
            listeners.discard(rung)
            if not listeners and self._listeners.get(key) is listeners:
                del self._listeners[key]
