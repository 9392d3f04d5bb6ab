"""Telling systemd how the service is: its notification protocol, sd_notify(3)."""

import contextlib
import os
import socket
from collections.abc import Mapping


class ServiceNotifier:
    """Sends notifications to the socket that systemd names, or nowhere when there is none."""

    __slots__ = ("_address", "watchdog_seconds")

    def __init__(self, address: str | None, watchdog_seconds: float | None) -> None:
        # A leading @ stands for the zero byte of an abstract address.
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self.watchdog_seconds = watchdog_seconds

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "ServiceNotifier":
        """Read NOTIFY_SOCKET and WATCHDOG_USEC; the watchdog counts only if it is meant for this process."""
        meant = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environ.get("WATCHDOG_USEC", "")
        watchdog = int(microseconds) / 1e6 if meant and microseconds.isdecimal() and int(microseconds) else None
        return cls(environ.get("NOTIFY_SOCKET"), watchdog)

    def notify(self, state: str) -> None:
        """Send one notification, e.g. `READY=1`; failures are ignored, as the manager's absence is no fault of ours."""
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as peer,
        ):
            peer.setblocking(False)
            peer.sendto(state.encode(), self._address)
