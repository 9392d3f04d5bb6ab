"""One process of a command: started in a session of its own, its output spooled, ended with its whole process group.

The process is watched through a pidfd, and reaped only after its group has been dealt with: until then its number,
which is the group's, cannot be given to another process, so that a signal never reaches a stranger.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from node_agent.commands.accounts import Account, NoAccount, find_account
from node_agent.commands.proc import RUN_VARIABLE
from node_agent.supervisor.tree import start_ticks

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# How long what a process left behind may go on writing before it is killed, and then until its pipes are given up.
LINGER_SECONDS = 0.5
# A pipe holds at most 1 MiB (fs.pipe-max-size), which is this many reads.
CLOSING_READS = 16
CHUNK_BYTES = 64 * 1024


class StartFailed(Exception):  # noqa: N818 - an expected refusal
    """The process could not be started; the message says why."""


class OutputSink(Protocol):
    """Takes what a process writes; it must not raise."""

    def append(self, chunk: bytes) -> None:
        """Take the next bytes."""
        ...

    def finish(self) -> None:
        """Hear that nothing follows."""
        ...


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """What to run, and as whom."""

    argv: list[str]
    environment: Mapping[str, str | bytes]
    working_directory: str | None
    user: str | None
    stdin: bytes | None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended: with an exit status or by a signal."""

    exit_code: int | None
    signal: int | None

    @property
    def well(self) -> bool:
        """Whether the exit status was 0."""
        return self.exit_code == 0


class Process:
    """A running process. `exited` is done once the process, though perhaps not its group, has ended."""

    def __init__(
        self, popen: subprocess.Popen[bytes], outputs: "list[_Output]", loop: asyncio.AbstractEventLoop
    ) -> None:
        self._popen = popen
        self._outputs = outputs
        self._loop = loop
        self._pidfd = os.pidfd_open(popen.pid)
        self.pid = popen.pid
        self.pid_start_ticks = start_ticks(popen.pid)
        self.exited: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._pidfd, self._on_exit)

    @classmethod
    async def start(cls, plan: ProcessPlan, stdout: OutputSink, stderr: OutputSink) -> Self:
        """Start a process whose output goes to the two sinks.

        Raises:
            StartFailed: no such program, user or directory, too many arguments, …
        """
        loop = asyncio.get_running_loop()
        pipes = _pipes(plan)
        try:
            popen = await _spawned(plan, pipes[0][1], pipes[1][1])
        except BaseException:
            for reading, _ in pipes:
                os.close(reading)
            raise
        finally:
            for _, writing in pipes:
                os.close(writing)
        outputs = [_Output(reading, sink, loop) for (reading, _), sink in zip(pipes, (stdout, stderr), strict=True)]
        try:
            return cls(popen, outputs, loop)
        except OSError as error:
            _abandon(popen, outputs)
            raise _start_failed(plan, error) from None

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to every process of the group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def stop(self, grace_seconds: float) -> None:
        """End the process: TERM to its group, and KILL once `grace_seconds` have passed."""
        self.signal_group(signal.SIGTERM)
        self.signal_group(signal.SIGCONT)
        await asyncio.wait({self.exited}, timeout=grace_seconds)
        self.signal_group(signal.SIGKILL)

    async def finish(self) -> Ending:
        """Wait for the end of the process and of its output, kill what is left of its group, and reap it."""
        await self.exited
        ends = [output.ended for output in self._outputs]
        _, writing = await asyncio.wait(ends, timeout=LINGER_SECONDS)
        self.signal_group(signal.SIGKILL)
        if writing:
            await asyncio.wait(writing, timeout=LINGER_SECONDS)
        for output in self._outputs:
            output.close()
        status = self._popen.wait()
        return Ending(status, None) if status >= 0 else Ending(None, -status)

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        if not self.exited.done():
            self.exited.set_result(None)


class _Output:
    """The reading end of a process's standard output or error."""

    def __init__(self, descriptor: int, sink: OutputSink, loop: asyncio.AbstractEventLoop) -> None:
        self._descriptor = descriptor
        self._sink = sink
        self._loop = loop
        self.ended: asyncio.Future[None] = loop.create_future()
        os.set_blocking(descriptor, False)
        loop.add_reader(descriptor, self._on_readable)

    def close(self) -> None:
        """Take what is in the pipe now, and give it up."""
        for _ in range(CLOSING_READS):
            if self.ended.done() or not self._on_readable():
                break
        self._end()

    def _on_readable(self) -> bool:
        try:
            chunk = os.read(self._descriptor, CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            self._end()
            return False
        self._sink.append(chunk)
        return True

    def _end(self) -> None:
        if not self.ended.done():
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._sink.finish()
            self.ended.set_result(None)


def _pipes(plan: ProcessPlan) -> list[tuple[int, int]]:
    first: tuple[int, int] | None = None
    try:
        first = os.pipe2(os.O_CLOEXEC)
        return [first, os.pipe2(os.O_CLOEXEC)]
    except OSError as error:  # no descriptor is left
        for descriptor in first or ():
            os.close(descriptor)
        raise _start_failed(plan, error) from None


def _abandon(popen: subprocess.Popen[bytes], outputs: list[_Output]) -> None:
    """End a process that cannot be watched, since nobody would hear of its end."""
    os.killpg(popen.pid, signal.SIGKILL)
    popen.wait()
    for output in outputs:
        output.close()


def _start_failed(plan: ProcessPlan, error: Exception) -> StartFailed:
    return StartFailed(f"cannot start {plan.argv[0][:200]!r}: {_reason(error, plan.argv[0])}")


async def _spawned(plan: ProcessPlan, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
    """Spawn in a thread; whoever is cancelled waits for that, and the process, of which nobody would know, ends."""
    spawning = asyncio.ensure_future(asyncio.to_thread(_spawn, plan, stdout, stderr))
    try:
        return await asyncio.shield(spawning)
    except asyncio.CancelledError:
        await asyncio.wait([spawning])
        if spawning.exception() is None:
            _abandon(spawning.result(), [])
        raise


def _spawn(plan: ProcessPlan, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
    try:
        account = find_account(plan.user)
        with _standard_input(plan.stdin) as stdin:
            return _popen(plan, account, stdin, stdout, stderr)
    except NoAccount as error:
        raise StartFailed(str(error)) from None
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise _start_failed(plan, error) from None


def _popen(plan: ProcessPlan, account: Account, stdin: int, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        plan.argv,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=plan.working_directory or account.home,
        env={**_environment(account), **plan.environment},
        start_new_session=True,
        umask=0o022,
        user=account.uid if account.switched else None,
        group=account.gid if account.switched else None,
        extra_groups=account.groups if account.switched else None,
    )


@contextlib.contextmanager
def _standard_input(content: bytes | None) -> Iterator[int]:
    """Give the process its input as a file in memory: nothing has to be pumped, and its end is the end."""
    if content is None:
        yield subprocess.DEVNULL
        return
    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def command_environment(
    account: Account, command_id: str, run_id: str, given: Mapping[str, str | bytes]
) -> dict[str, str | bytes]:
    """Return what a command finds in its environment: nothing of the agent's own, and nothing that hides its name."""
    return {**_environment(account), **given, "TRUNKLINE_COMMAND_ID": command_id, RUN_VARIABLE: run_id}


def _environment(account: Account) -> dict[str, str]:
    return {
        "PATH": SEARCH_PATH,
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "LANG": "C.UTF-8",
    }


def _reason(error: Exception, program: str = "") -> str:
    """Say what went wrong, and with which file where that is not the program, which is named already."""
    if isinstance(error, OSError) and error.strerror:
        named = isinstance(error.filename, str) and error.filename != program
        return f"{error.strerror} ({error.filename})" if named else error.strerror
    return str(error)
