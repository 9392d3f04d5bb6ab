"""A supervisor's program: takes its plan, claims its command, supervises it, records the ending, and goes."""

import contextlib
import os
import selectors
import shutil
import signal
import socket
import time
from typing import Any, NoReturn

from node_agent.supervisor.cgroups import Group, make_group
from node_agent.supervisor.control import Control
from node_agent.supervisor.kernel import adopt_orphans, hide_memory
from node_agent.supervisor.launch import ExitStatus
from node_agent.supervisor.plan import LENGTH_BYTES, MAX_PLAN_BYTES, Plan, parse_plan
from node_agent.supervisor.records import EndingFile, claim, open_directory
from node_agent.supervisor.supervision import Supervision
from node_agent.supervisor.tree import start_ticks

# How long a disk that does not take the ending is asked again.
RECORDING_SECONDS = 600.0
RECORDING_PAUSE_SECONDS = 1.0
_RECEIVE_BYTES = 256 * 1024


def main(directory: str, descriptor: str) -> NoReturn:
    """Supervise one command; this process then ends without further ado."""
    os._exit(_run(directory, socket.socket(fileno=int(descriptor))))


def _run(path: str, agent: socket.socket) -> int:
    os.umask(0o077)
    os.chdir("/")
    with contextlib.suppress(PermissionError):  # it leads a session already
        os.setsid()
    agent.set_inheritable(False)
    os.closerange(agent.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
    wakeup = _take_signals()
    hide_memory()
    adopt_orphans()
    body = _receive_plan(agent)
    if body is None:
        return ExitStatus.NO_PLAN
    plan, directory = parse_plan(body), open_directory(path)
    del body
    selector = selectors.DefaultSelector()
    group = Group({})
    supervision = Supervision(plan, directory, group, selector)
    control = Control(agent, selector, supervision.heard)
    _watch_signals(selector, wakeup, supervision)
    try:
        ending = EndingFile(directory)
    except OSError as error:
        control.tell({"failed": f"there is no place for its records: {error.strerror}"})
        return ExitStatus.NOT_STARTED
    try:
        group.directories.update(make_group(plan.run_id).directories)
        control.listen(directory)
        ours = claim(directory, _claim(plan, group))
    except OSError as error:
        control.tell({"failed": f"there is no place for its records: {error.strerror}"})
        return _without_trace(control, ending, group, directory, ExitStatus.NOT_STARTED)
    if not ours:
        return _without_trace(control, ending, group, directory, ExitStatus.NOT_OURS)
    return _supervised(supervision, control, plan, ending, group, directory)


def _supervised(
    supervision: Supervision, control: Control, plan: Plan, ending: EndingFile, group: Group, directory: int
) -> int:
    try:
        document = supervision.run(control)
    except Exception as error:  # noqa: BLE001 - whatever it is, nothing may be left running
        supervision.end_at_once()
        document = {"lost": f"its supervisor failed ({type(error).__name__} at {_place(error)}) and killed it"}
    _remove_secrets(plan)
    recorded = _record(ending, document)
    group.remove()
    control.close(directory)
    return ExitStatus.ENDED if recorded else ExitStatus.NOT_RECORDED


def _without_trace(control: Control, ending: EndingFile, group: Group, directory: int, status: int) -> int:
    ending.give_up()
    group.remove()
    control.close(directory)
    return status


def _claim(plan: Plan, group: Group) -> dict[str, Any]:
    return {
        "run_id": plan.run_id,
        "pid": os.getpid(),
        "start_ticks": start_ticks(os.getpid()),
        "groups": group.directories,
        "secrets_directory": plan.secrets_directory,
    }


def _take_signals() -> int:
    """Let nothing but SIGTERM and the end of children be heard, and SIGKILL; return where they are heard."""
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    return reading


def _watch_signals(selector: selectors.BaseSelector, wakeup: int, supervision: Supervision) -> None:
    def heard(_: int) -> None:
        numbers = os.read(wakeup, 4096)
        if signal.SIGCHLD in numbers:
            supervision.children_changed()
        if signal.SIGTERM in numbers:
            supervision.terminated()

    selector.register(wakeup, selectors.EVENT_READ, heard)


def _receive_plan(agent: socket.socket) -> bytes | None:
    """Return the plan, or None if the agent went away before all of it was here."""
    length = int.from_bytes(_receive(agent, LENGTH_BYTES) or b"", "big")
    return _receive(agent, length) if 0 < length <= MAX_PLAN_BYTES else None


def _receive(agent: socket.socket, size: int) -> bytes | None:
    content = bytearray()
    with contextlib.suppress(OSError):
        while len(content) < size:
            chunk = agent.recv(min(_RECEIVE_BYTES, size - len(content)))
            if not chunk:
                break
            content += chunk
    return bytes(content) if len(content) == size else None


def _record(ending: EndingFile, document: dict[str, Any]) -> bool:
    """Record the ending, however long the disk does not take it; return whether it is recorded."""
    deadline = time.monotonic() + RECORDING_SECONDS
    while True:
        try:
            ending.write(document)
        except FileNotFoundError:  # the directory was deleted: nobody wants to know
            return False
        except OSError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(RECORDING_PAUSE_SECONDS)
        else:
            return True


def _remove_secrets(plan: Plan) -> None:
    if plan.secrets_directory is not None:
        shutil.rmtree(plan.secrets_directory, ignore_errors=True)


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace is not None else "?"
