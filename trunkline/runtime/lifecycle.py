"""The life of a daemon: starting, ready, draining, stopped, and who is told.

A daemon names the conditions of its readiness while it is put together, then calls `started`. When every condition is
met for the first time, `endpoints.json` is written and systemd is told. SIGTERM or SIGINT asks for a drain; the second
one asks to stop at once. SIGUSR1 (`DRAIN_SIGNAL`) asks for a drain, however often it comes: several who know nothing of
each other may send it. SIGHUP runs the reload callbacks. The daemon's own code waits for these and does the work.
"""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from trunkline.runtime.files import write_atomic
from trunkline.runtime.log_writer import log_remark
from trunkline.runtime.logs import Logger
from trunkline.runtime.systemd import ServiceNotifier
from trunkline.version import __version__

T = TypeVar("T")

ENDPOINTS_FILE = "endpoints.json"
DRAIN_SIGNAL = signal.SIGUSR1


class Condition:
    """One thing that must hold for the daemon to be ready; not met to begin with."""

    __slots__ = ("_changed", "name", "reason")

    def __init__(self, name: str, changed: Callable[[], None]) -> None:
        self.name = name
        self.reason: str | None = "not yet"
        self._changed = changed

    def met(self) -> None:
        """Say that it holds."""
        self.reason = None
        self._changed()

    def unmet(self, reason: str) -> None:
        """Say that it does not hold, and why, in words for an operator."""
        self.reason = reason
        self._changed()


class Lifecycle:
    """The state of the daemon, its signals, and its readiness."""

    def __init__(self, *, state_directory: Path | None, notifier: ServiceNotifier, log: Logger) -> None:
        """Begin; without a state directory nobody is told where this one listens."""
        self._endpoints_path = state_directory / ENDPOINTS_FILE if state_directory is not None else None
        self._notifier = notifier
        self._log = log
        self._conditions: list[Condition] = []
        self._endpoints: dict[str, str] | None = None
        self._reloads: list[Callable[[], None]] = []
        self._remarks: dict[str, Callable[[], str | None]] = {"log": log_remark}
        self._left: Callable[[], dict[str, Any] | None] | None = None
        self._announced = False
        self.drain_requested = asyncio.Event()
        self.stop_requested = asyncio.Event()

    def condition(self, name: str) -> Condition:
        """Add a condition of readiness."""
        condition = Condition(name, self._announce)
        self._conditions.append(condition)
        return condition

    def on_reload(self, callback: Callable[[], None]) -> None:
        """Run `callback` at each SIGHUP; it must not raise."""
        self._reloads.append(callback)

    def started(self, *, url: str | None = None, admin_url: str | None = None) -> None:
        """Say that everything is wired and listening at these addresses."""
        given = {"url": url, "admin_url": admin_url}
        self._endpoints = {name: value for name, value in given.items() if value is not None}
        self._announce()

    @property
    def draining(self) -> bool:
        """Whether the daemon was asked to end."""
        return self.drain_requested.is_set()

    @property
    def ready(self) -> bool:
        """Whether the daemon has started, is not draining, and every condition is met."""
        return self._endpoints is not None and not self.draining and not self.unmet_conditions()

    def unmet_conditions(self) -> dict[str, str]:
        """Return the conditions that do not hold, with the reasons."""
        return {condition.name: condition.reason for condition in self._conditions if condition.reason is not None}

    def remark(self, name: str, tell: Callable[[], str | None]) -> None:
        """Show what `tell` returns to whoever asks for details, unless it is None; readiness does not hang on it."""
        self._remarks[name] = tell

    def on_drain_progress(self, tell: Callable[[], dict[str, Any] | None]) -> None:
        """Show what `tell` returns, JSON members by name or None, to whoever asks for details during the drain."""
        self._left = tell

    def left(self) -> dict[str, Any] | None:
        """Return what keeps a daemon that drains; None when it does not drain, or cannot tell."""
        return self._left() if self.draining and self._left is not None else None

    def remarks(self) -> dict[str, str]:
        """Return what there is to remark now."""
        return {name: text for name, tell in self._remarks.items() if (text := tell()) is not None}

    def request_drain(self) -> None:
        """Ask for the end; asked again, for the end at once."""
        if self.drain_requested.is_set():
            self._log.warning("daemon.stop_requested")
            self.stop_requested.set()
            return
        self._log.info("daemon.drain_requested")
        self._notifier.notify("STOPPING=1")
        self.drain_requested.set()

    def ensure_drain(self) -> None:
        """Ask for the end, unless that was asked for."""
        if not self.draining:
            self.request_drain()

    def request_reload(self) -> None:
        """Reload what can be reloaded."""
        self._log.info("daemon.reload")
        for callback in self._reloads:
            callback()

    async def unless_drained(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Await work that may take long, such as a first bootstrap, unless the end is asked for before it is done.

        Returns:
            What the work gives; None if it was cancelled for the end's sake.
        """
        task = asyncio.ensure_future(work)
        drain = asyncio.ensure_future(self.drain_requested.wait())
        try:
            await asyncio.wait({task, drain}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            for pending in (task, drain):
                pending.cancel()
            await asyncio.wait({task, drain})

    async def within_drain(self, work: Awaitable[object], timeout_seconds: float) -> bool:
        """Await the work of draining, but no longer than the time given, nor past a demand to stop at once.

        Returns:
            Whether the work was finished.
        """
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self.stop_requested.wait())
        try:
            await asyncio.wait({task, stop}, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
            return task.done()
        finally:
            for pending in (task, stop):
                pending.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)

    async def keep_watchdog(self) -> None:
        """Tell systemd for ever that the event loop turns, twice as often as it asks; return if it does not ask."""
        if self._notifier.watchdog_seconds is None:
            return
        while True:
            self._notifier.notify("WATCHDOG=1")
            await asyncio.sleep(self._notifier.watchdog_seconds / 2)

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.request_drain)
        loop.add_signal_handler(signal.SIGINT, self.request_drain)
        loop.add_signal_handler(DRAIN_SIGNAL, self.ensure_drain)
        loop.add_signal_handler(signal.SIGHUP, self.request_reload)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, DRAIN_SIGNAL):
            loop.remove_signal_handler(number)
        # To systemd an end by SIGTERM, which may come now, is an orderly one; by this it would not be.
        signal.signal(DRAIN_SIGNAL, signal.SIG_IGN)
        if self._announced and self._endpoints_path is not None:
            with contextlib.suppress(OSError):
                self._endpoints_path.unlink()

    def _announce(self) -> None:
        if self._announced or self._endpoints is None or not self.ready:
            return
        self._announced = True
        if self._endpoints_path is not None:
            self._write_endpoints(self._endpoints_path, self._endpoints)
        self._notifier.notify("READY=1")
        self._log.info("daemon.ready", version=__version__, **self._endpoints)

    def _write_endpoints(self, path: Path, endpoints: dict[str, str]) -> None:
        content = json.dumps({"pid": os.getpid(), **endpoints}, indent=2) + "\n"
        try:
            write_atomic(path, content.encode(), mode=0o644)
        except OSError as error:
            self._log.error("daemon.endpoints_not_written", reason=error.strerror)
