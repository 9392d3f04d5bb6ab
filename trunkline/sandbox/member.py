"""A process of a sandbox with the settings it is started from, kept on the ports that it had first."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing

from trunkline.sandbox.daemon import Endpoints, SandboxProcess
from trunkline.sandbox.settings_files import LOOPBACK, Ports


class Member:
    """One daemon of the sandbox.

    Attributes:
        role: `control_plane`, `relay`, `identity_emulator`, or a node's name.
        process: its process.
        endpoints: where it is reached, once it has been ready.
    """

    def __init__(self, role: str, process: SandboxProcess, write_settings: Callable[[Ports], None]) -> None:
        self.role = role
        self.process = process
        self.endpoints: Endpoints | None = None
        self._write_settings = write_settings

    async def start(self, ports: Ports) -> Endpoints:
        """Start it for the first time, on these ports or, where they are 0 or taken, on others; wait until it is ready.

        Raises:
            SandboxFailed: it ended, or was not ready in time.
        """
        self._write_settings(Ports(_if_free(ports.service), _if_free(ports.admin)))
        await self.process.start()
        return await self.wait_until_ready()

    async def wait_until_ready(self) -> Endpoints:
        """Wait until it is ready after a start, and settle it on its ports.

        Raises:
            SandboxFailed: it ended, or was not ready in time.
        """
        self.endpoints = await self.process.ready()
        self._write_settings(self.endpoints.ports)
        return self.endpoints


def _if_free(port: int) -> int:
    """The port, or 0 if something listens on it."""
    if port == 0:
        return 0
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return 0
    return port
