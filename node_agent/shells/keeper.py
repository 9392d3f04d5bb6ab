"""The process that stands above one shell: starts it as its user, ends whatever it has started, says how it ended.

It imports only the standard library and `node_agent.supervisor`. It is started with the shell's three standard
descriptors as its own, and a socket to the agent, on which both write JSON, a document a line. The agent's first line
is the plan. The keeper answers `{"started": true, "groups": {…}}` or `{"failed": reason}`; once the shell's first
program has ended and nothing is left of the session, `{"exited": status}` (as `os.waitstatus_to_exitcode`), and goes.

The session is in a control group of its own, as a command is, and bounded so. The keeper is the reaper of everything
below it, so a daemon that forks twice does not get away. When the socket ends, the agent is gone, and the session goes
with it. When the keeper is killed, the first program is too, and the rest is the agent's to end: `started` names the
groups.
"""

import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import socket
import sys
import termios
import time
from collections.abc import Collection
from typing import Any, NoReturn

from node_agent.supervisor.cgroups import Group, make_group
from node_agent.supervisor.child import lower_priority, restore_signals, set_rlimits
from node_agent.supervisor.kernel import adopt_orphans, die_with, leave_keyring
from node_agent.supervisor.plan import Limits
from node_agent.supervisor.tree import descendants, kill_all, signal_all

LARGEST_LINE_BYTES = 1024 * 1024
HANG_UP_SECONDS = 2.0
"""How long a session may go on after SIGHUP."""
KILL_SECONDS = 5.0
FAILED_STATUS = 127


class Keeper:
    """The shell's first program, and what may be asked about it."""

    def __init__(self, agent: socket.socket, child: int, group: Group) -> None:
        self._agent = agent
        self._child = child
        self._group = group
        self._pidfd = os.pidfd_open(child)
        self._received = b""
        self._kill_at: float | None = None

    def run(self) -> None:
        """Serve the agent until the program has ended, then end the rest."""
        woken = _wake_for_children()
        poll = select.poll()
        for waited_for in (self._pidfd, self._agent, woken):
            poll.register(waited_for, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(self._wait_milliseconds())}
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self._kill_all()
                self._kill_at = None
            if self._pidfd in ready:
                break
            if woken in ready:
                os.read(woken, 4096)
                self._reap_others()
            if self._agent.fileno() in ready and not self._receive():
                poll.unregister(self._agent)
                self._hang_up()
        self._finish()

    def _receive(self) -> bool:
        """Do what the agent asks; return whether it is still there."""
        try:
            content = self._agent.recv(65536)
        except OSError:
            content = b""
        *lines, self._received = (self._received + content).split(b"\n")
        for line in lines:
            self._act(json.loads(line))
        return bool(content)

    def _act(self, asked: dict[str, Any]) -> None:
        if asked.get("hang_up"):
            self._hang_up()
        elif "signal" in asked:
            self._signal(signal.Signals[f"SIG{asked['signal']}"], int(asked["group"]) or self._child)

    def _signal(self, number: signal.Signals, group: int) -> None:
        """Signal a process group of the session, and no other."""
        with contextlib.suppress(OSError):
            if os.getsid(group) == self._child:
                os.killpg(group, number)

    def _hang_up(self) -> None:
        signal_all(self._listing, signal.SIGHUP)
        signal_all(self._listing, signal.SIGCONT)
        if self._kill_at is None:
            self._kill_at = time.monotonic() + HANG_UP_SECONDS

    def _finish(self) -> None:
        """End what is left while the first program's number is still taken, and only then reap it."""
        self._kill_all()
        _, status = os.waitpid(self._child, 0)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        self._group.remove()
        _say(self._agent, {"exited": os.waitstatus_to_exitcode(status)})

    def _kill_all(self) -> None:
        self._group.kill()
        kill_all(self._listing, timeout_seconds=KILL_SECONDS)

    def _listing(self) -> set[int]:
        """List what still runs: without zombies, of which the first program stays one until the end."""
        self._reap_others()
        below = (self._group.members() | descendants(os.getpid())) - {os.getpid()}
        if os.waitid(os.P_PID, self._child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            below.discard(self._child)
        return below

    def _reap_others(self) -> None:
        """Reap adopted orphans; the first program only at the end."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if ended.si_pid == self._child:
                    break  # whoever ended after it is found one by one
                os.waitpid(ended.si_pid, 0)
            else:
                return
        for pid in descendants(os.getpid()) - {self._child}:
            with contextlib.suppress(ChildProcessError):  # a child of a child is its parent's to reap
                os.waitpid(pid, os.WNOHANG)

    def _wait_milliseconds(self) -> float | None:
        return None if self._kill_at is None else max(0.0, (self._kill_at - time.monotonic()) * 1000)


def main() -> None:
    """Be the keeper; the socket to the agent is the descriptor in the first argument."""
    agent = socket.socket(fileno=int(sys.argv[1]))
    agent.set_inheritable(False)
    plan = json.loads(_read_line(agent))
    adopt_orphans()
    group = make_group(plan["run_id"])
    try:
        bounded = group.bound_or_refuse(Limits(**plan["limits"]))
        child = _started(plan, group, bounded)
    except OSError as error:
        group.remove()
        _say(agent, {"failed": error.strerror})
        return
    _say(agent, {"started": True, "groups": group.directories})
    Keeper(agent, child, group).run()


def _started(plan: dict[str, Any], group: Group, bounded: Collection[str]) -> int:
    """Start the first program; return its process.

    Raises:
        OSError: it cannot be started.
    """
    reading, writing = os.pipe()
    keeper, child = os.getpid(), os.fork()
    if child == 0:
        _become(plan, group, bounded, keeper, writing)
    os.close(writing)
    _let_go_of_standard_descriptors()
    reason = os.read(reading, 4096)
    os.close(reading)
    if reason:
        os.waitpid(child, 0)
        raise OSError(errno.ECHILD, reason.decode("utf-8", "replace"))
    return child


def _become(plan: dict[str, Any], group: Group, bounded: Collection[str], keeper: int, failure: int) -> NoReturn:
    """Be the shell, from here on; what goes wrong is written to `failure`, which closes when nothing does."""
    try:
        os.setsid()
        if plan["terminal"]:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        restore_signals()
        group.enter()
        lower_priority()
        set_rlimits(Limits(**plan["limits"]), bounded)
        leave_keyring()
        if plan["switched"]:
            os.setgroups(plan["groups"])
            os.setresgid(plan["gid"], plan["gid"], plan["gid"])
            os.setresuid(plan["uid"], plan["uid"], plan["uid"])
        os.umask(0o022)
        die_with(keeper)
        _enter(plan["directory"])
        os.execvpe(plan["program"], plan["argv"], plan["environment"])  # noqa: S606 - an argument list
    except BaseException as error:  # noqa: BLE001 - this process must not come back
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        os.write(failure, reason.encode("utf-8", "replace"))
    os._exit(FAILED_STATUS)


def _enter(directory: str) -> None:
    try:
        os.chdir(directory)
    except OSError:
        os.chdir("/")


def _wake_for_children() -> int:
    """Return a descriptor that can be read whenever a child has ended."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    return reading


def _let_go_of_standard_descriptors() -> None:
    """Hold neither the terminal nor the pipes open: their end is the shell's."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _read_line(agent: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        content = agent.recv(65536)
        if not content or len(line) > LARGEST_LINE_BYTES:
            sys.exit(FAILED_STATUS)
        line += content
    return line


def _say(agent: socket.socket, document: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the agent has gone
        agent.sendall(json.dumps(document).encode() + b"\n")
