"""One shell's processes as the agent holds them: the terminal or the pipes, and the keeper that stands above them."""

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import socket
import struct
import subprocess
import sys
import termios
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import node_agent
from node_agent.commands.accounts import Account
from node_agent.commands.left_behind import clear_left_behind

START_SECONDS = 20.0
_MODE = 0o600
_PACKAGES = str(Path(node_agent.__file__).parent.parent)
_KEEPER = "import sys; sys.path.insert(0, sys.argv.pop(1)); from node_agent.shells.keeper import main; main()"


class StartFailed(Exception):  # noqa: N818 - an expected refusal
    """The shell could not be started; the message says why."""


@dataclass(frozen=True, slots=True)
class ProgramPlan:
    """What the keeper starts: `program` is looked up in the PATH of `environment`, `argv` is what it is given.

    `run_id` names its control group, and is in its environment; `limits` are those of `node_agent.rules.limits`.
    """

    program: str
    argv: list[str]
    environment: dict[str, str]
    directory: str
    terminal: bool
    switched: bool
    uid: int
    gid: int
    groups: list[int]
    run_id: str
    limits: dict[str, int | None]


@dataclass(frozen=True, slots=True)
class Ends:
    """The agent's ends: of the terminal (one descriptor for both ways), or of three pipes."""

    input: int
    outputs: tuple[int, ...]

    def close(self) -> None:
        """Close them all."""
        for descriptor in {self.input, *self.outputs}:
            os.close(descriptor)


class Program:
    """A running shell. `status` is done once nothing is left: as `os.waitstatus_to_exitcode`, or None if unknown."""

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        ends: Ends,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        claim: dict[str, Any],
    ) -> None:
        self._popen = popen
        self._claim = claim
        self._reader = reader
        self._writer = writer
        self.ends = ends
        self.status: asyncio.Task[int | None] = asyncio.create_task(self._await_status())

    @classmethod
    async def start(cls, account: Account, plan: ProgramPlan, rows: int, columns: int) -> Self:
        """Start a shell.

        Raises:
            StartFailed: no such program, no terminal left, …
        """
        try:
            ends, theirs = _open_terminal(account, rows, columns) if plan.terminal else _open_pipes()
        except OSError as error:
            raise StartFailed(f"the node has no terminal or descriptors left: {error.strerror}") from None
        try:
            return await cls._started(plan, ends, theirs)
        except BaseException:
            ends.close()
            raise

    @classmethod
    async def _started(cls, plan: ProgramPlan, ends: Ends, theirs: tuple[int, int, int]) -> Self:
        here, there = socket.socketpair()
        try:
            popen = await asyncio.to_thread(_spawn, there, theirs)
            reader, writer = await asyncio.open_connection(sock=here)
        except OSError as error:
            here.close()
            raise StartFailed(f"the keeper cannot be started: {error.strerror}") from None
        finally:
            there.close()
            for descriptor in set(theirs):
                os.close(descriptor)
        answer = await _begin(plan, reader, writer)
        if answer.get("started"):
            return cls(popen, ends, reader, writer, {"run_id": plan.run_id, "groups": answer.get("groups")})
        failure = answer.get("failed", "the keeper has ended")
        writer.close()
        popen.kill()
        await asyncio.to_thread(popen.wait)
        raise StartFailed(f"cannot start {plan.program!r}: {failure}")

    def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size, while it is open; the kernel tells its foreground."""
        with contextlib.suppress(OSError):
            _set_size(self.ends.input, rows, columns)

    def signal(self, name: str, *, foreground: bool) -> None:
        """Signal the group of the first program, or with `foreground`, while `ends.input` is open, its terminal's."""
        group = 0
        if foreground:
            with contextlib.suppress(OSError):  # without a terminal there is no foreground
                group = os.tcgetpgrp(self.ends.input)
        self._say({"signal": name, "group": group})

    def hang_up(self) -> None:
        """End the session: SIGHUP to all of it, and SIGKILL a moment later."""
        self._say({"hang_up": True})

    def _say(self, document: dict[str, Any]) -> None:
        if not self._writer.is_closing():
            self._writer.write(json.dumps(document).encode() + b"\n")

    async def _await_status(self) -> int | None:
        status = None
        try:
            while line := await self._reader.readline():
                status = json.loads(line).get("exited", status)
        except (OSError, ValueError):
            pass
        self._writer.close()
        await asyncio.to_thread(self._popen.wait)
        if isinstance(status, int):
            return status
        # The keeper was killed, and has ended nothing.
        await asyncio.to_thread(clear_left_behind, self._claim["run_id"], self._claim, ())
        return None


async def _begin(plan: ProgramPlan, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> dict[str, Any]:
    """Give the keeper its plan; return what it answers."""
    writer.write(json.dumps(asdict(plan)).encode() + b"\n")
    try:
        async with asyncio.timeout(START_SECONDS):
            answer: dict[str, Any] = json.loads(await reader.readline() or b"{}")
    except (OSError, TimeoutError):
        return {"failed": "the keeper does not answer"}
    return answer


def _spawn(control: socket.socket, descriptors: tuple[int, int, int]) -> subprocess.Popen[bytes]:
    """Start the keeper (this blocks); it is in a session of its own, and finds nothing of the agent's environment."""
    stdin, stdout, stderr = descriptors
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _KEEPER, _PACKAGES, str(control.fileno())],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=(control.fileno(),),
        env={},
        cwd="/",
        start_new_session=True,
    )


def _open_terminal(account: Account, rows: int, columns: int) -> tuple[Ends, tuple[int, int, int]]:
    """Open a terminal that belongs to the user, and to nobody else."""
    master, slave = pty.openpty()
    try:
        os.fchmod(slave, _MODE)  # while it is still ours: of others' it takes a capability that the agent need not have
        if account.switched:
            os.fchown(slave, account.uid, account.gid)
        _set_size(master, rows, columns)
        os.set_blocking(master, False)
    except OSError:
        os.close(master)
        os.close(slave)
        raise
    return Ends(master, (master,)), (slave, slave, slave)


def _open_pipes() -> tuple[Ends, tuple[int, int, int]]:
    opened: list[tuple[int, int]] = []
    try:
        opened.extend(os.pipe2(os.O_CLOEXEC) for _ in range(3))
    except OSError:
        for pair in opened:
            for descriptor in pair:
                os.close(descriptor)
        raise
    (stdin_out, stdin_in), (stdout_out, stdout_in), (stderr_out, stderr_in) = opened
    for descriptor in (stdin_in, stdout_out, stderr_out):
        os.set_blocking(descriptor, False)
    return Ends(stdin_in, (stdout_out, stderr_out)), (stdin_out, stdout_in, stderr_in)


def _set_size(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
