"""`trunkline relay drain --config FILE [--wait]`: ask this machine's relay to end, and tell what it waits for.

The relay is the process that holds the lock of the state directory, as the kernel tells it in /proc/locks: a file with
a number in it could be a dead process's, and the number somebody else's by now. It is signalled through a pidfd, by
the signal that may come twice: two who ask in the same moment cannot know of each other. A relay of an earlier release,
which that would kill, and one that is just starting, get SIGTERM, unless they say that they drain.
"""

import argparse
import asyncio
import contextlib
import json
import math
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

from relay.settings import RelaySettings
from trunkline.runtime.daemon import (
    EXIT_NO_PERMISSION,
    EXIT_TEMPORARY,
    EXIT_UNAVAILABLE,
    Daemon,
    DaemonParser,
    StartError,
    run_daemon,
)
from trunkline.runtime.files import LOCK_FILE, read_regular
from trunkline.runtime.lifecycle import DRAIN_SIGNAL, ENDPOINTS_FILE

LOCKS = Path("/proc/locks")
LOOK_SECONDS = 0.5
ANSWER_SECONDS = 5.0
MAX_SHOWN_CALLS = 10
MAX_ENDPOINTS_BYTES = 65_536


def run_drain(daemon: Daemon[RelaySettings], argv: Sequence[str]) -> int:
    """Run `drain --config FILE`; the settings are the daemon's, returns the exit code."""
    parser = DaemonParser(prog=f"trunkline {daemon.name} drain", add_help=False, allow_abbrev=False)
    parser.add_argument("--wait", action="store_true")
    parser.add_argument("--timeout", type=_seconds, default=None)
    own, rest = parser.parse_known_args(argv)
    if own.timeout is not None and not own.wait:
        parser.error("--timeout says how long --wait takes at most, and is nothing without it")
    draining = replace(
        daemon,
        name=f"{daemon.name} drain",
        serve=lambda settings: drain(settings, wait=own.wait, timeout_seconds=own.timeout),
        usage=f"trunkline {daemon.name} drain --config FILE [--wait [--timeout SECONDS]] [-h]",
        epilog="--wait tells what is left until the relay has gone; --timeout SECONDS: for at most so long (exit 75).",
    )
    return run_daemon(draining, rest)


def _seconds(text: str) -> float:
    """Read a time to wait."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds


async def drain(settings: RelaySettings, *, wait: bool, timeout_seconds: float | None = None) -> None:
    """Ask the relay to end; with `wait`, tell what is left until it has gone.

    Raises:
        StartError: none runs, it may not be asked by this user, or it has not gone in time.
    """
    directory = settings.state_directory
    pid, pidfd = _open_relay(directory)
    try:
        admin_url = _admin_url(directory, pid)
        if await _drains(admin_url):
            sys.stdout.write(f"relay {pid} was asked to end before\n")
        else:
            _ask(pid, pidfd)
            sys.stdout.write(f"relay {pid} was asked to end\n")
        if wait:
            async with asyncio.timeout(timeout_seconds):
                await _until_gone(pidfd, admin_url)
            sys.stdout.write(f"relay {pid} has ended\n")
    except TimeoutError:
        message = f"the relay has not ended in {timeout_seconds:g} s, and goes on draining"
        raise StartError(message, EXIT_TEMPORARY) from None
    finally:
        os.close(pidfd)


def lock_holder(lock: Path, locks: Path = LOCKS) -> int | None:
    """Return the number of the process that holds a flock(2) on the file; None if none that can be seen does."""
    try:
        status = lock.stat()
        lines = locks.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    flocks = [fields for fields in map(str.split, lines) if len(fields) >= 6 and fields[1] == "FLOCK"]
    held = [(int(fields[4]), fields[5]) for fields in flocks if int(fields[4]) > 0]
    for pid, where in held:
        if where == place:
            return pid
    # Of overlayfs and Btrfs the kernel lists another device than stat(2) tells.
    return next((pid for pid, _ in held if _has_locked(pid, status)), None)


def _has_locked(pid: int, status: os.stat_result) -> bool:
    """Whether one of the descriptors of the process, as far as we may see them, holds a flock on the file."""
    process = Path("/proc") / str(pid)
    try:
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
                same = os.path.samestat(descriptor.stat(), status)
                if same and "FLOCK" in (process / "fdinfo" / descriptor.name).read_text(encoding="ascii"):
                    return True
    except OSError:
        pass
    return False


def _open_relay(directory: Path) -> tuple[int, int]:
    """Return the relay's number, and a pidfd that is certainly its own."""
    pid = lock_holder(directory / LOCK_FILE)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            if lock_holder(directory / LOCK_FILE) == pid:
                return pid, pidfd
            os.close(pidfd)
    raise StartError(f"no relay runs with the state directory {directory}", EXIT_UNAVAILABLE)


async def _drains(admin_url: str | None) -> bool:
    """Whether the relay says that it drains: another SIGTERM would have it stop now, and cut what it waits for."""
    if admin_url is None:
        return False
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS)) as session:
        return (await _standing(session, admin_url)).get("draining") is True


def _ask(pid: int, pidfd: int) -> None:
    number = DRAIN_SIGNAL if _catches(pid, DRAIN_SIGNAL) else signal.SIGTERM
    try:
        signal.pidfd_send_signal(pidfd, number)
    except PermissionError:
        raise StartError("this user may not end the relay; be its user, or root", EXIT_NO_PERMISSION) from None
    except ProcessLookupError:
        return


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for the signal, as the kernel tells it; no, where it does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
        caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    except OSError:
        return False
    return bool(int(caught, 16) >> (number - 1) & 1)


async def _until_gone(pidfd: int, admin_url: str | None) -> None:
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[None] = loop.create_future()
    loop.add_reader(pidfd, _set, gone)
    told = ""
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS)) as session:
            while not gone.done():
                told = await _tell(session, admin_url, told)
                await asyncio.wait([gone], timeout=LOOK_SECONDS)
    finally:
        loop.remove_reader(pidfd)


def _set(gone: asyncio.Future[None]) -> None:
    if not gone.done():
        gone.set_result(None)


async def _tell(session: aiohttp.ClientSession, admin_url: str | None, told: str) -> str:
    """Print what is left where that has changed; returns what was printed last."""
    text = _left_as_text(await _left(session, admin_url)) if admin_url is not None else None
    if text is None or text == told:
        return told
    sys.stdout.write(text)
    sys.stdout.flush()
    return text


async def _left(session: aiohttp.ClientSession, admin_url: str) -> dict[str, Any]:
    left = (await _standing(session, admin_url)).get("left")
    return left if isinstance(left, dict) else {}


async def _standing(session: aiohttp.ClientSession, admin_url: str) -> dict[str, Any]:
    try:
        async with session.get(f"{admin_url}/readyz?verbose") as answer:
            document = await answer.json()
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _left_as_text(left: dict[str, Any]) -> str | None:
    if not left:
        return None
    lines = [
        f"{left['calls_open']} calls, {left['connections']} connections, {left['sender_links']} links of senders, "
        f"{left['listener_links']} links of nodes are left"
    ]
    for call in left["calls"][:MAX_SHOWN_CALLS]:
        where = f"{call['node']}.{call['workspace']}:{call['port']}"
        lines.append(f"  {call['kind']} {call['request_id']} to {where}, since {call['start_time']}")
    return "".join(f"{line}\n" for line in lines)


def _admin_url(directory: Path, pid: int) -> str | None:
    """Return where the relay's admin endpoint is; None if it has not said so yet."""
    try:
        endpoints = json.loads(read_regular(directory / ENDPOINTS_FILE, most_bytes=MAX_ENDPOINTS_BYTES))
    except (OSError, ValueError):
        return None
    return endpoints.get("admin_url") if isinstance(endpoints, dict) and endpoints.get("pid") == pid else None
