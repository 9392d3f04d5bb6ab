"""The relay under test: the real daemon as a process of its own, with an identity and a trust document laid ready.

Its control plane does not exist; a relay serves on with the trust that it has. Where `make compile` has built the data
path, that build is what runs, unless the Python files are asked for.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from bench.build import Build
from bench.credentials import Credentials
from bench.machine import RELAY_CORE, children, pinned
from bench.ports import kept_port, wait_for_file, wait_for_port
from relay.admission.quota_keeper import QUOTAS_FILE
from trunkline.runtime.files import write_atomic

START_SECONDS = 60.0
"""Until its port is open; with a tenth of a processor, on a host that others use, 20 s were once too few."""
NOTHING: Mapping[str, Any] = MappingProxyType({})
_CONFIGURATION = """
workers = {workers}
state_directory = "{state}"
event_loop = "{event_loop}"
[listen]
address = "127.0.0.1"
port = {port}
[admin]
port = 0
[log]
level = "warning"
format = "json"
[control_plane]
url = "https://localhost:{closed_port}"
ca_file = "{roots}"
[limits]
{limits}
"""


class Relay:
    """A relay on the relay's core, always on the same port.

    Args:
        directory: made for it.
        credentials: where its identity and trust come from.
        event_loop: which it runs on.
        build: which files it runs.
        limits: members of its `[limits]` other than the defaults.
        quotas: those of its workspaces, as the control plane states them.
        within: a command that runs it, such as `prlimit` with its options.
        workers: how many processes carry calls.
    """

    def __init__(
        self,
        directory: Path,
        credentials: Credentials,
        event_loop: str = "auto",
        build: Build = Build.PURE,
        *,
        limits: Mapping[str, float] = NOTHING,
        quotas: Mapping[str, Any] = NOTHING,
        within: Sequence[str] = (),
        workers: int = 1,
    ) -> None:
        directory.mkdir()
        self._directory = directory
        self._workers = workers
        self._build = build
        self._within = within
        self.state = directory / "state"
        credentials.prepare_relay(self.state)
        write_atomic(self.state / QUOTAS_FILE, json.dumps(dict(quotas)).encode())
        self.port = kept_port()
        self.url = f"https://localhost:{self.port}"
        self._configuration = directory / "relay.toml"
        self._log = directory / "relay.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._configuration.write_text(
            _CONFIGURATION.format(
                workers=workers,
                state=self.state,
                event_loop=event_loop,
                port=self.port,
                closed_port=kept_port(),
                roots=credentials.roots,
                limits="\n".join(f"{name} = {value}" for name, value in limits.items()),
            )
        )

    @property
    def pid(self) -> int:
        """The running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def pids(self) -> list[int]:
        """The running process, and its workers."""
        return [self.pid, *children(self.pid)]

    def start(self) -> float:
        """Start it, and return when its port was open, in monotonic seconds; of workers, when all of them serve."""
        command = [*self._within, sys.executable, "-m", "trunkline", "relay", "--config", str(self._configuration)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                pinned(RELAY_CORE, command), stderr=log, stdout=log, cwd=self._directory, env=self._build.environment()
            )
        try:
            if self._workers > 1:
                wait_for_file(self.state / "endpoints.json", START_SECONDS)
            return wait_for_port(self.port, START_SECONDS)
        except TimeoutError:
            self.kill()
            raise RuntimeError(f"the relay did not start: {self._log.read_text()}") from None

    @property
    def admin_url(self) -> str:
        """Where it tells of itself."""
        url: str = json.loads((self.state / "endpoints.json").read_bytes())["admin_url"]
        return url

    @property
    def log(self) -> str:
        """What it has written."""
        return self._log.read_text()

    def kill(self) -> None:
        """End it without any farewell."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)


@contextmanager
def running_relay(
    directory: Path, credentials: Credentials, event_loop: str = "auto", build: Build = Build.PURE, **options: Any
) -> Iterator[Relay]:
    """A relay, killed at the end; for the options see `Relay`."""
    relay = Relay(directory, credentials, event_loop, build, **options)
    relay.start()
    try:
        yield relay
    finally:
        relay.kill()


class Attachable(Protocol):
    """A relay that listeners dial."""

    @property
    def url(self) -> str:
        """Where."""
        ...


@contextmanager
def listening(
    relay: Attachable,
    credentials_file: Path,
    core: int,
    times_file: Path | None = None,
    *,
    priority: Sequence[str] = (),
) -> Iterator[int]:
    """Listeners for the nodes of a file, all attached, run at a `priority`; the process id is given."""
    command = [*priority, sys.executable, "-m", "bench.listener", relay.url, str(credentials_file)]
    if times_file is not None:
        command.append(str(times_file))
    process = subprocess.Popen(pinned(core, command), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "up":
            raise RuntimeError("the listeners did not come up")
        yield process.pid
    finally:
        process.kill()
        process.communicate(timeout=10)
