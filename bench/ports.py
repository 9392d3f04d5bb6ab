"""Ports: one that is free, and waiting until one answers."""

from __future__ import annotations

import socket
import time
from pathlib import Path

POLL_SECONDS = 0.002


def free_port() -> int:
    """A TCP port of loopback that nobody holds at this moment, for programs that cannot pick one themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
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
