"""A relay that is restarted in order: asked to end, waited for, started again, and ready before the next one's turn."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import aiohttp

from bench.build import Build
from bench.credentials import Credentials
from bench.haproxy import Upstream
from bench.ports import kept_port, wait_for_port

READY_SECONDS = 60.0
POLL_SECONDS = 0.05
_CONFIGURATION = """
state_directory = "{state}"
[listen]
address = "127.0.0.1"
port = {port}
[admin]
port = {admin_port}
[log]
level = "info"
format = "json"
[control_plane]
url = "https://localhost:{closed_port}"
ca_file = "{roots}"
[limits]
drain_lead_seconds = {lead_seconds}
return_seconds = 15.0
"""


class RestartedRelay:
    """One relay, always on the same ports."""

    def __init__(self, directory: Path, credentials: Credentials, build: Build, *, lead_seconds: float) -> None:
        directory.mkdir()
        credentials.prepare_relay(directory / "state")
        self.upstream = Upstream(kept_port(), kept_port())
        self.url = f"https://localhost:{self.upstream.port}"
        self._directory = directory
        self._build = build
        self._log = directory / "relay.log"
        self._process: subprocess.Popen[bytes] | None = None
        text = _CONFIGURATION.format(
            state=directory / "state",
            port=self.upstream.port,
            admin_port=self.upstream.admin_port,
            closed_port=kept_port(),
            roots=credentials.roots,
            lead_seconds=lead_seconds,
        )
        (directory / "relay.toml").write_text(text)

    def start(self) -> None:
        """Start it, and wait until its port is open."""
        command = [sys.executable, "-m", "trunkline", "relay", "--config", str(self._directory / "relay.toml")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stderr=log, stdout=log, cwd=self._directory, env=self._build.environment()
            )
        wait_for_port(self.upstream.port)

    async def restart(self) -> tuple[float, float]:
        """Drain it, start it again and wait until it is ready; returns for how many seconds it ended, and was away."""
        process = self._process
        assert process is not None
        asked_at = time.monotonic()
        process.terminate()
        await asyncio.to_thread(process.wait, READY_SECONDS)
        ended_at = time.monotonic()
        if process.returncode:
            raise RuntimeError(f"the relay ended with status {process.returncode}")
        await asyncio.to_thread(self.start)
        await self.ready()
        return ended_at - asked_at, time.monotonic() - ended_at

    async def ready(self) -> None:
        """Wait until it says that it is.

        Raises:
            TimeoutError: it does not.
        """
        url = f"http://127.0.0.1:{self.upstream.admin_port}/readyz"
        async with asyncio.timeout(READY_SECONDS), aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(url) as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(POLL_SECONDS)

    def errors(self) -> list[str]:
        """The lines of its log that say error."""
        return [line for line in self._log.read_text().splitlines() if '"level": "error"' in line]

    def kill(self) -> None:
        """End it without any farewell."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
