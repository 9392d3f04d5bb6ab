"""A PostgreSQL server of a test's own, where this machine has its programs."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.ports import kept_port

USER = "trunkline"
UNPRIVILEGED = "nobody"
UNSAFE_AND_FAST = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off"


def has_postgres() -> bool:
    """Whether a server can be made here."""
    return all(_program(name) is not None for name in ("initdb", "pg_ctl"))


@dataclass(frozen=True)
class Postgres:
    """A server on a port of the loopback."""

    directory: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://{USER}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        listen = f"-p {self.port} -k {self.directory} -c listen_addresses=127.0.0.1 {UNSAFE_AND_FAST}"
        _run("pg_ctl", "-D", str(self._data), "-o", listen, "-l", str(self.directory / "log"), "-w", "start")

    def stop(self) -> None:
        _run("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Stop the server and its backends, as a machine that stands still does: they refuse nothing, and go on."""
        postmaster = int((self._data / "postmaster.pid").read_text().splitlines()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        pids = [postmaster, *map(int, children)]
        _signal(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(pids, signal.SIGCONT)

    def make(self) -> None:
        _run("initdb", "-D", str(self._data), "-U", USER, "--auth=trust", "-E", "UTF8", "--no-sync", "--locale=C")

    @property
    def _data(self) -> Path:
        return self.directory / "data"


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Make a server, and run it."""
    with TemporaryDirectory(prefix="trunkline-pg-") as directory:
        if os.geteuid() == 0:
            os.chown(directory, pwd.getpwnam(UNPRIVILEGED).pw_uid, -1)
        server = Postgres(Path(directory), kept_port())
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _program(name: str) -> str | None:
    """Where a program of the server is: Debian keeps those out of the way of everybody's `PATH`."""
    kept = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, kept)))


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # a backend that was about to end has ended
            os.kill(pid, number)


def _run(name: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs, which refuse to be root's."""
    command = [str(_program(name)), *arguments]
    user = UNPRIVILEGED if os.geteuid() == 0 else None
    subprocess.run(command, check=True, user=user, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
