"""The start of a command's program: a process of its own session, in its group, bounded, as its user, and then exec.

The supervisor has one thread, so that everything may be done between fork and exec. What goes wrong there is told
through a pipe that exec closes: its end without a word means that the program runs.
"""

import contextlib
import errno
import json
import os
import resource
import signal
from collections.abc import Callable, Collection
from typing import NoReturn

from node_agent.supervisor.cgroups import Group
from node_agent.supervisor.kernel import die_with, leave_keyring
from node_agent.supervisor.plan import Limits, Plan, User

UMASK = 0o022
# What the kernel kills first when memory is short: the commands, not the agent.
OOM_SCORE = 300
_MAX_SHOWN_CHARACTERS = 200
# A number, and a place each of whose characters may become twelve when it is escaped.
MAX_REPORT_BYTES = 4096
# How the processes of a command are bounded where no group bounds them: per process, and per user.
_RLIMITS = {"memory_bytes": resource.RLIMIT_AS, "processes": resource.RLIMIT_NPROC}


def start_program(plan: Plan, group: Group, streams: Collection[int], bounded: Collection[str]) -> tuple[int, int]:
    """Start the program; return its process, and the descriptor that tells whether exec was reached.

    Args:
        plan: what to run, and as whom.
        group: which the process enters before anything else.
        streams: the descriptors that become its standard input, output and error.
        bounded: the names of the limits that the group sees to.

    Raises:
        OSError: no process can be made.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    supervisor = os.getpid()
    # Until the new process has given up what this one does at signals, a stop would be heard and forgotten there.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        pid = os.fork()
        if pid == 0:
            _become(plan, group, streams, bounded, writing, supervisor)
    except OSError:
        os.close(reading)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(writing)
    return pid, reading


def failure_of(report: bytes, plan: Plan) -> str | None:
    """Return why the program could not be started, as its report says, or None if it runs."""
    if not report:
        return None
    number, place = json.loads(report)
    reason = os.strerror(number) + (f" ({place})" if place else "")
    return f"cannot start {plan.argv[0][:_MAX_SHOWN_CHARACTERS]!r}: {reason}"


def _become(
    plan: Plan, group: Group, streams: Collection[int], bounded: Collection[str], report: int, supervisor: int
) -> NoReturn:
    place = ""
    try:
        for place, step in _steps(plan, group, streams, bounded, supervisor):  # noqa: B007 - named where it fails
            step()
        place = ""
        _execute(
            [one.encode() for one in plan.argv], {name.encode(): value for name, value in plan.environment.items()}
        )
    except Exception as error:  # noqa: BLE001 - there is nobody else to tell it to
        number = error.errno if isinstance(error, OSError) else None
        os.write(report, json.dumps([number or errno.EINVAL, place[:_MAX_SHOWN_CHARACTERS]]).encode())
    finally:
        os._exit(127)


def _steps(
    plan: Plan, group: Group, streams: Collection[int], bounded: Collection[str], supervisor: int
) -> list[tuple[str, Callable[[], None]]]:
    """Return what is done in the new process, in order, each with what to name if it fails."""
    return [
        ("signals", restore_signals),
        ("session", os.setsid),
        ("control group", group.enter),
        ("priority", lower_priority),
        ("limits", lambda: set_rlimits(plan.limits, bounded)),
        ("standard streams", lambda: _connect(streams)),
        ("keyring", leave_keyring),
        ("user", lambda: _switch(plan.user)),
        ("parent", lambda: die_with(supervisor)),
        (plan.working_directory, lambda: os.chdir(plan.working_directory.encode())),
    ]


def _execute(argv: list[bytes], environment: dict[bytes, bytes]) -> NoReturn:
    """Search the program as execvp(3) does, in the PATH that it will have."""
    program, refused = argv[0], OSError(errno.ENOENT, "")
    places = environment.get(b"PATH", b"").split(b":") if b"/" not in program else []
    for path in [place + b"/" + program for place in places] or [program]:
        try:
            os.execve(path, argv, environment)  # noqa: S606 - a shell is what it must never be
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                refused = error
    raise refused


def lower_priority() -> None:
    """Give up what the agent has been given above others."""
    if os.getpriority(os.PRIO_PROCESS, 0) < 0:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "r+", encoding="ascii") as file:
        score = int(file.read())
        file.seek(0)
        file.write(str(max(score, OOM_SCORE)))


def set_rlimits(limits: Limits, bounded: Collection[str]) -> None:
    """Bound this process and what it starts, but for the limits that a group sees to (`bounded`, by name).

    Raises:
        OSError: the kernel refuses.
    """
    wanted = {kind: getattr(limits, name) for name, kind in _RLIMITS.items() if name not in bounded}
    wanted[resource.RLIMIT_NOFILE] = limits.open_files
    for kind, value in wanted.items():
        if value is not None:
            hard = resource.getrlimit(kind)[1]
            lowest = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (lowest, lowest))


def _connect(streams: Collection[int]) -> None:
    """Make the three descriptors 0, 1 and 2; all others close at exec."""
    # Above 2 first, so that none is overwritten before it has been copied.
    high = [os.dup(descriptor) if descriptor > 2 else _dup_above(descriptor) for descriptor in streams]
    for number, descriptor in enumerate(high):
        os.dup2(descriptor, number, inheritable=True)


def _dup_above(descriptor: int) -> int:
    copies = [os.dup(descriptor)]
    while copies[-1] <= 2:
        copies.append(os.dup(descriptor))
    return copies[-1]


def _switch(user: User | None) -> None:
    os.umask(UMASK)
    if user is not None:
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)


def restore_signals() -> None:
    """Have every signal do what it does by default, and block none."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
