"""A supervisor by itself, without an agent: started with a plan, talked to, and waited for; and the end of all."""

import contextlib
import dataclasses
import json
import os
import select
import signal
import socket
from pathlib import Path
from typing import Any

from node_agent.commands.ledger import CommandLedger
from node_agent.supervisor.control import Lines, encode
from node_agent.supervisor.launch import spawn
from node_agent.supervisor.plan import Plan
from node_agent.supervisor.records import CLAIM_FILE, ENDING_FILE, open_directory, read_document

WAIT_SECONDS = 20.0
PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def plan(*argv: str, **changes: Any) -> Plan:
    """A plan with bounds that fit a test."""
    fields: dict[str, Any] = {
        "run_id": os.urandom(16).hex(),
        "argv": argv,
        "environment": {"PATH": PATH},
        "working_directory": "/",
        "user": None,
        "timeout_seconds": 60.0,
        "grace_seconds": 30.0,
        "max_output_bytes": 1 << 30,
    }
    return Plan(**(fields | changes))


class Supervised:
    """A running supervisor. Leaving the context ends it with its command."""

    def __init__(self, directory: Path, wanted: Plan, *, part_of_plan: bool = False) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self._agent, theirs = socket.socketpair()
        self._agent.settimeout(WAIT_SECONDS)
        self._lines = Lines()
        self._heard: list[dict[str, Any]] = []
        with theirs:
            self.pid = spawn(str(directory), theirs)
        self._pidfd = os.pidfd_open(self.pid)
        self._status: int | None = None
        content = wanted.to_bytes()
        self._agent.sendall(content[:-1] if part_of_plan else content)

    def __enter__(self) -> "Supervised":
        return self

    def __exit__(self, *exception: object) -> None:
        for _ in range(2):
            if self._status is None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
        self.wait()
        os.close(self._pidfd)
        self._agent.close()

    def say(self, message: dict[str, Any]) -> None:
        """Say something to it."""
        self._agent.sendall(encode(message))

    def hang_up(self) -> None:
        """Be an agent that has died."""
        self._agent.close()

    def hears(self, key: str) -> Any:
        """Wait until it says something of that kind; returns what."""
        while True:
            while self._heard:
                message = self._heard.pop(0)
                if key in message:
                    return message[key]
            content = self._agent.recv(65536)
            assert content, f"it went without saying {key}"
            self._heard += self._lines.feed(content)

    def wait(self) -> int:
        """Wait until it has gone; returns its exit status, negative for a signal."""
        if self._status is None:
            assert select.select([self._pidfd], [], [], WAIT_SECONDS)[0], "the supervisor does not go"
            try:
                self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            except ChildProcessError:  # an agent of the same test follows it too, and has collected it
                self._status = 0
        return self._status

    def ended(self) -> dict[str, Any]:
        """Wait until it has gone; returns the recorded ending."""
        assert self.wait() == 0
        return self.document(ENDING_FILE)

    def document(self, name: str) -> dict[str, Any]:
        """A document of the command's directory."""
        descriptor = open_directory(self.directory)
        try:
            found = read_document(descriptor, name)
        finally:
            os.close(descriptor)
        assert found is not None, f"there is no {name}"
        return found

    def claim(self) -> dict[str, Any]:
        """The claim."""
        return self.document(CLAIM_FILE)

    def output(self, name: str = "stdout") -> bytes:
        """What was spooled."""
        return (self.directory / name).read_bytes()


def alive(pid: int) -> bool:
    """Whether a process lives (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def end_commands(ledger: CommandLedger) -> None:
    """Stop the ledger as one whose commands end with the agent, whatever its bounds say."""
    ledger._bounds = dataclasses.replace(ledger._bounds, outlive_agent=False)
    await ledger.stop()


def collect_supervisors(commands: Path) -> None:
    """End the supervisors of the commands in a directory, and collect those that agents of the same test started."""
    for claim in commands.glob(f"*/{CLAIM_FILE}"):
        pid = json.loads(claim.read_bytes()).get("pid")
        if pid is None:
            continue
        with contextlib.suppress(ChildProcessError):  # most have been collected
            found, _ = os.waitpid(pid, os.WNOHANG)
            if not found:
                os.kill(pid, signal.SIGTERM)
                os.kill(pid, signal.SIGTERM)
                os.waitpid(pid, 0)
