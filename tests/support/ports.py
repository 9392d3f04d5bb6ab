"""Ports that a daemon can be started at again, after it was killed."""

import random
import socket

_BELOW_EPHEMERAL = range(
    20_000, 32_768
)  # Linux hands out 32768-60999 to sockets that ask for none, ip_local_port_range


def kept_port() -> int:
    """A TCP port of loopback that nobody holds, and that the system gives to nobody while its daemon is restarted."""
    while True:
        port = random.choice(_BELOW_EPHEMERAL)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
