"""The processes below a supervisor: who they are, and how they are signalled without ever hitting a stranger.

A number may be given to another process between the moment it is read and the one it is signalled. So each process is
opened as a pidfd first, and is signalled through that only if it is still among those meant when they are listed again.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection

# How many processes are held open at once.
BATCH = 512
KILL_PAUSE_SECONDS = 0.01

Listing = Callable[[], Collection[int]]


def descendants(*roots: int) -> set[int]:
    """Return the processes below `roots`, which are not among them unless one is below another; zombies are.

    It reads lists of children and nothing else: whoever reads the state of a process that is about to end may have to
    wait for its memory to be given back, which takes long while hundreds of others wait for the same.
    """
    below: set[int] = set()
    waiting = list(roots)
    while waiting:
        fresh = _children(waiting.pop()) - below
        below |= fresh
        waiting.extend(fresh)
    return below


def _children(pid: int) -> set[int]:
    found: set[int] = set()
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found.update(map(int, file.read().split()))
    except OSError:
        pass  # it has ended, and its children are somebody else's now
    return found


def state_and_parent(pid: int) -> tuple[str, int] | None:
    """Return a process's state (a letter) and its parent, or None when there is no such process."""
    fields = stat_fields(pid)
    return None if fields is None else (fields[0], int(fields[1]))


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot, or None when there is no such process.

    With the number it names a process for good, since numbers are given again and this is not.
    """
    fields = stat_fields(pid)
    return None if fields is None else int(fields[19])


def stat_fields(pid: int) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat from the third on (the second, the name, may hold spaces)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            content = file.read()
    except OSError:
        return None
    return content.rpartition(")")[2].split()


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
        time.sleep(KILL_PAUSE_SECONDS)


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
