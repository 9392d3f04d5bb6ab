"""The processes below a keeper: who they are, and how they are signalled without ever hitting a stranger.

A number may be given to another process between the moment it is read and the moment it is signalled. So each process
is opened as a pidfd first, and is signalled through that only if it is still among those meant when they are listed
again. Only the standard library is imported here.
"""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Collection
from pathlib import Path

PAUSE_SECONDS = 0.01
BATCH = 128
"""How many processes are held open at once."""
_PR_SET_CHILD_SUBREAPER = 36

Listing = Callable[[], Collection[int]]


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parents end, so that a daemon that forks twice stays a descendant.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def descendants(root: int) -> set[int]:
    """Return the living processes below `root`, which is not among them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (parent := _living_parent(entry)) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    below: set[int] = set()
    waiting = [root]
    while waiting:
        fresh = [pid for pid in children.get(waiting.pop(), ()) if pid not in below]
        below.update(fresh)
        waiting.extend(fresh)
    return below


def signal_all(listing: Listing, number: signal.Signals) -> int:
    """Send a signal to every process listed; return how many there were."""
    pids = sorted(listing())
    for start in range(0, len(pids), BATCH):
        _signal_batch(pids[start : start + BATCH], listing, number)
    return len(pids)


def kill_all(listing: Listing, *, timeout_seconds: float) -> bool:
    """Kill what is listed until nothing is, or the time is over; return whether nothing is left.

    All are stopped before any is killed, so that no parent sees its children die and makes others.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        signal_all(listing, signal.SIGSTOP)
        if not signal_all(listing, signal.SIGKILL):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(PAUSE_SECONDS)


def _living_parent(entry: Path) -> int | None:
    """Return the parent of a process that has not ended; its name, the second field, may hold spaces and brackets."""
    try:
        state, parent = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else int(parent)


def _signal_batch(pids: Collection[int], listing: Listing, number: signal.Signals) -> None:
    held: dict[int, int] = {}
    try:
        for pid in pids:
            with contextlib.suppress(OSError):
                held[pid] = os.pidfd_open(pid)
        meant = set(listing())
        for pid, descriptor in held.items():
            if pid in meant:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    signal.pidfd_send_signal(descriptor, number)
    finally:
        for descriptor in held.values():
            os.close(descriptor)
