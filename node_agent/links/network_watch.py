"""What the kernel tells of this machine's network: that addresses, routes or interfaces have changed (rtnetlink(7)).

What has changed is not looked at: after any change links are probed, which costs a ping. A machine on which containers
come and go changes all the time, so changes are collected for a moment, and told no oftener than `QUIET_SECONDS`.
Without such a socket, as in a sandbox that forbids it, the keepalive of the links is what is left.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Final

from trunkline.runtime.logs import Logger

# linux/rtnetlink.h: RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE.
GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
SETTLE_SECONDS: Final = 0.5
"""After the first change, until it is told: an interface that comes up makes a dozen."""
QUIET_SECONDS: Final = 5.0
MOST_BYTES: Final = 65_536
MOST_MESSAGES: Final = 64
"""Read in one turn of the loop."""


class NetworkWatch:
    """Calls `changed` after changes, until it is closed."""

    def __init__(self, changed: Callable[[], None], log: Logger) -> None:
        self._changed = changed
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._told_at = -QUIET_SECONDS

    def start(self) -> None:
        """Begin to listen; where that is not allowed, say so once."""
        try:
            self.watch(_subscribe())
        except OSError as error:
            self._log.info("network.not_watched", reason=error.strerror, consequence="the keepalive finds dead links")

    def watch(self, opened: socket.socket) -> None:
        """Take a socket that does not block, on which each message is a change; closed by `close`."""
        self._socket = opened
        self._loop.add_reader(opened.fileno(), self._readable)

    def close(self) -> None:
        """Listen no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _readable(self) -> None:
        opened = self._socket
        if opened is None:
            return
        for _ in range(MOST_MESSAGES):
            try:
                opened.recv(MOST_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                # That the kernel had more to say than fits is a change too.
                if error.errno != errno.ENOBUFS:
                    self._log.warning("network.not_watched", reason=error.strerror)
                    self.close()
                    return
        if self._timer is None:
            now = self._loop.time()
            self._timer = self._loop.call_at(max(now + SETTLE_SECONDS, self._told_at + QUIET_SECONDS), self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._told_at = self._loop.time()
        self._changed()


def _subscribe() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    try:
        opened.bind((0, GROUPS))
    except OSError:
        opened.close()
        raise
    return opened
