"""Whether a sandbox is running in a directory, and how it is stopped from outside.

A supervisor holds the lock of its directory as long as it lives, and the lock's file says who it is. What a killed
supervisor left behind ends by itself (see `processes`), but for commands on its nodes, which go on without anybody;
whatever does not end is found by its arguments, and ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from trunkline.sandbox.layout import Layout
from trunkline.sandbox.processes import processes_of, send, supervisors_for

STOP_SECONDS = 40.0
LEFTOVER_SECONDS = 8.0
# First in order; then at once, as daemons and the supervisors of commands take a second one; then by force.
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL)
_POLL_SECONDS = 0.05


class AlreadyRunning(Exception):  # noqa: N818 - what is the case
    """Another supervisor has the directory."""


@contextlib.contextmanager
def supervision(layout: Layout) -> Iterator[None]:
    """Hold the directory inside the block.

    Raises:
        AlreadyRunning: another supervisor holds it.
        OSError: the lock's file cannot be made.
    """
    descriptor = _open_lock(layout.lock_file)
    try:
        if not _try_lock(descriptor):
            raise AlreadyRunning
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def stop_leftovers(layout: Layout) -> None:
    """End what a killed supervisor left running in the directory."""
    for number in _ENDING_SIGNALS:
        for pid in processes_of(layout.root):
            send(pid, number)
        if _wait_until(lambda: not processes_of(layout.root), LEFTOVER_SECONDS):
            break
    layout.description_file.unlink(missing_ok=True)


def stop_sandbox(layout: Layout) -> bool:
    """Stop the sandbox of a directory and wait until it has; returns whether one was running.

    The supervisor is asked with SIGTERM and, if it has not ended in `STOP_SECONDS`, killed, which ends its processes.

    Raises:
        OSError: the directory is another user's, or cannot be used.
    """
    if not layout.lock_file.exists():
        return False
    layout.check_owner()
    coming = supervisors_for(layout.root)
    for one in coming:  # it may not have come to its lock yet, where its maker was killed
        send(one, signal.SIGTERM)
    pid = _holder(layout.lock_file)
    if pid is not None:
        send(pid, signal.SIGTERM)
        if not _wait_until(lambda: _holder(layout.lock_file) is None, STOP_SECONDS):
            send(pid, signal.SIGKILL)
            _wait_until(lambda: _holder(layout.lock_file) is None, LEFTOVER_SECONDS)
    _wait_until(lambda: not supervisors_for(layout.root) & coming, LEFTOVER_SECONDS)
    stop_leftovers(layout)
    return pid is not None or bool(coming)


def _holder(lock_file: Path) -> int | None:
    """The supervisor that holds the lock, if one does."""
    descriptor = _open_lock(lock_file)
    try:
        if _try_lock(descriptor):
            return None
        text = os.pread(descriptor, 32, 0).decode("ascii", "replace")
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)


def _open_lock(lock_file: Path) -> int:
    return os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_until(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    give_up_at = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= give_up_at:
            return False
        time.sleep(_POLL_SECONDS)
    return True
