"""Ports: one that stays free, and waiting until one answers."""

from __future__ import annotations

import random
import socket
import time
from pathlib import Path

POLL_SECONDS = 0.002
# Linux hands out 32768-60999 to sockets that ask for none, ip_local_port_range.
_BELOW_EPHEMERAL = range(20_000, 32_768)


def kept_port() -> int:
    """A TCP port of loopback that nobody holds, and that the system gives to no one until its daemon listens there.

    Not one that the system picks: it may give the same to another socket as soon as this one is closed, and again
    while a daemon is restarted.
    """
    while True:
        port = random.choice(_BELOW_EPHEMERAL)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def wait_for_port(port: int, timeout_seconds: float = 20.0) -> float:
    """Wait until a connection to the port succeeds; return when that was, in monotonic seconds.

    Raises:
        TimeoutError: nobody listens there in time.
    """
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return time.monotonic()
        except OSError:
            time.sleep(POLL_SECONDS)
    raise TimeoutError(f"nobody listens on port {port}")


def wait_for_file(path: Path, timeout_seconds: float = 20.0) -> None:
    """Wait until a file is there.

    Raises:
        TimeoutError: it is not in time.
    """
    deadline = time.monotonic() + timeout_seconds
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} is not there")
        time.sleep(POLL_SECONDS)
