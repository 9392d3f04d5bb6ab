"""One process of a sandbox: loaded, started, waited for until it is ready, and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from trunkline.sandbox.processes import CHILD_MODULE
from trunkline.sandbox.settings_files import Ports

READY_SECONDS = 30.0
STOP_SECONDS = 10.0
LAST_LOG_LINES = 15
_POLL_SECONDS = 0.02
_DROPPED_PREFIXES = ("TRUNKLINE_", "NOTIFY_SOCKET", "WATCHDOG_")


class SandboxFailed(Exception):  # noqa: N818 - what happened
    """The sandbox cannot start or go on; the message says why, with the last lines of the log at fault."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What a ready daemon says of itself in its `endpoints.json`."""

    pid: int
    url: str | None
    admin_url: str | None
    further: Mapping[str, str] = field(default_factory=dict)

    @property
    def ports(self) -> Ports:
        """The ports it listens on, 0 where it does not."""
        return Ports(_port_of(self.url), _port_of(self.admin_url))


class SandboxProcess:
    """A daemon as a process of its own; `start` it again after it has ended.

    Attributes:
        name: what people call it.
        starting: whether there may be a process whose id is not known yet.
    """

    def __init__(self, name: str, arguments: list[str], *, state_directory: Path, log_file: Path) -> None:
        """Describe a process.

        Args:
            name: what people call it.
            arguments: of `trunkline.sandbox.child`, after the supervisor's process id.
            state_directory: where it writes `endpoints.json` once it is ready.
            log_file: where its output goes.
        """
        self.name = name
        self._arguments = arguments
        self._endpoints_file = state_directory / "endpoints.json"
        self._log_file = log_file
        self._process: asyncio.subprocess.Process | None = None
        self.starting = False

    @property
    def pid(self) -> int:
        """The process's id, 0 before its first start."""
        return self._process.pid if self._process is not None else 0

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def load(self) -> asyncio.subprocess.Process:
        """Make the process, which ends with this one; it loads its program and waits for `start`."""
        self.starting = True
        try:
            with self._log_file.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    CHILD_MODULE,
                    str(os.getpid()),
                    *self._arguments,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=child_environment(os.environ),
                    start_new_session=True,
                )
            return self._process
        finally:
            self.starting = False

    async def start(self) -> None:
        """Let the process run its program, which now reads its settings; one that is not loaded is loaded first."""
        process = self._process
        if process is None or process.returncode is not None:
            process = await self.load()
        if process.stdin is not None:
            process.stdin.write(b"\n")
            process.stdin.close()

    async def ready(self, timeout_seconds: float = READY_SECONDS) -> Endpoints:
        """Wait until it says that it is ready.

        Raises:
            SandboxFailed: it ended, or was not ready in time.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while self.running:
                    endpoints = _read_endpoints(self._endpoints_file)
                    if endpoints is not None and endpoints.pid == self.pid:
                        return endpoints
                    await asyncio.sleep(_POLL_SECONDS)
        how = f"was not ready within {timeout_seconds:g} s" if self.running else f"ended with {self._status}"
        raise SandboxFailed(f"{self.name} {how}; the end of {self._log_file}:\n{self._last_lines()}")

    async def ended(self) -> int:
        """Wait until the process has ended; returns its status."""
        return 0 if self._process is None else await self._process.wait()

    async def stop(self, timeout_seconds: float = STOP_SECONDS) -> None:
        """SIGTERM, and SIGKILL if that does not end it in time."""
        if self._process is None or not self.running:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    @property
    def _status(self) -> str:
        code = self._process.returncode if self._process is not None else None
        return f"signal {-code}" if code is not None and code < 0 else f"status {code}"

    def _last_lines(self) -> str:
        try:
            text = self._log_file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        return "\n".join(f"  {line}" for line in text.splitlines()[-LAST_LOG_LINES:]) or "  (nothing)"


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a sandbox's processes: without settings meant for others, and never through a proxy."""
    kept = {name: value for name, value in environ.items() if not name.startswith(_DROPPED_PREFIXES)}
    return kept | {"NO_PROXY": "localhost,127.0.0.1", "no_proxy": "localhost,127.0.0.1", "PYTHONUNBUFFERED": "1"}


def _read_endpoints(path: Path) -> Endpoints | None:
    try:
        document = json.loads(path.read_bytes())
        pid = int(document.pop("pid"))
        return Endpoints(pid, document.pop("url", None), document.pop("admin_url", None), document)
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def _port_of(url: str | None) -> int:
    return (urlsplit(url).port or 0) if url else 0
