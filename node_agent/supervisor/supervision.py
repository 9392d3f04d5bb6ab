"""The supervision of one command, from the start of its program to its recorded ending.

Theory of operation. One loop waits for the pipes, the agents, signals and the next deadline. A stop is asked for by an
agent, by the timeout, or by SIGTERM; the first cause counts. It is TERM to everybody in the group and below this one,
then, once the grace is over, KILL. This process is the child subreaper of everything that the command makes, so that
*no child is left to wait for* means *nobody is left*. A program that ends by itself may leave others behind: they get
`LINGER_SECONDS` to finish their writing, and are killed. Only when nobody is left is the ending recorded.
"""

import contextlib
import os
import resource
import selectors
import signal
import time
from typing import Any

from node_agent.supervisor.cgroups import Group
from node_agent.supervisor.child import MAX_REPORT_BYTES, failure_of, start_program
from node_agent.supervisor.control import Control, Message
from node_agent.supervisor.outputs import Output
from node_agent.supervisor.plan import Plan
from node_agent.supervisor.records import STARTED_FILE, write_document
from node_agent.supervisor.stdin import StdinFeed, content_at_start
from node_agent.supervisor.tree import descendants, kill_all, signal_all, start_ticks

STREAMS = ("stdout", "stderr")
# How long what a program left behind may go on writing before it is killed.
LINGER_SECONDS = 0.5
# How long killing is tried in one go; it is tried again after as long.
KILL_SECONDS = 5.0
# epoll_wait(2) takes milliseconds as an int, of 24 days; a timeout may be longer.
LONGEST_PATIENCE_SECONDS = 86400.0
TIMEOUT = "timeout"
SIGNALLED = "signalled"
_SIGNAL_REASON = "its supervisor was told to end it (SIGTERM), as when the node is shut down"


class Supervision:
    """Supervises one command; `run` returns how it ended."""

    def __init__(self, plan: Plan, directory: int, group: Group, selector: selectors.BaseSelector) -> None:
        self._plan = plan
        self._directory = directory
        self._group = group
        self._selector = selector
        self._control: Control | None = None
        self._outputs: list[Output] = []
        self._stdin: StdinFeed | None = None
        self._report: int | None = None
        self._pid = 0
        self._status: int | None = None
        self._alone = False
        self._failure: str | None = None
        self._cause: str | None = None
        self._reason: str | None = None
        self._kill_at: float | None = None
        self._killed = False
        self._terminations = 0
        self._started_monotonic = time.monotonic()
        self._start_ms = int(time.time() * 1000)
        self._exited_at = 0.0
        self._max_rss_bytes = 0

    def heard(self, message: Message) -> None:
        """Take what an agent says; what is not understood is ignored, since it may be of a later release."""
        stop = message.get("stop")
        if isinstance(stop, dict):
            grace = stop.get("grace")
            seconds = float(grace) if isinstance(grace, int | float) else self._plan.grace_seconds
            self._stop(str(stop.get("cause")), str(stop.get("reason") or "")[:1000] or None, seconds)
        if self._stdin is not None and "stdin_bytes" in message:
            total = message["stdin_bytes"]
            self._stdin.grown(total if isinstance(total, int) else None)

    def run(self, control: Control) -> dict[str, Any]:
        """Start the program, wait until nobody of the command is left, and return the ending."""
        self._control = control
        try:
            self._start()
        except OSError as error:
            self._failure = f"cannot start it: {error.strerror}" + (f" ({error.filename})" if error.filename else "")
            self._status, self._alone = 0, True
        while not self._over():
            for key, mask in self._selector.select(self._patience()):
                key.data(mask)
            self._look(time.monotonic())
        control.tell({"over": True})  # what is left to do may take as long as the disk does
        return self._ending()

    def end_at_once(self) -> None:
        """Kill everybody; the supervision has failed."""
        self._kill()

    def children_changed(self) -> None:
        """Collect everybody who has ended."""
        try:
            while True:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
                if pid == 0:
                    return
                self._max_rss_bytes = max(self._max_rss_bytes, usage.ru_maxrss * 1024)
                if pid == self._pid:
                    self._status = status
                    self._exited_at = time.monotonic()
        except ChildProcessError:
            self._alone = True

    def terminated(self) -> None:
        """End the command because somebody asks this process to end; asked again, at once."""
        self._terminations += 1
        killed = self._status is not None and os.WIFSIGNALED(self._status)
        if killed and self._cause is None:  # by whoever signals everybody, as when the node is shut down
            self._cause, self._reason = SIGNALLED, _SIGNAL_REASON
        self._stop(SIGNALLED, _SIGNAL_REASON, self._plan.grace_seconds if self._terminations == 1 else 0.0)

    def _start(self) -> None:
        plan = self._plan
        for name in STREAMS:
            self._outputs.append(Output(self._directory, name, self._selector, plan.max_output_bytes, plan.patterns))
        bounded = self._group.bound_or_refuse(plan.limits)
        if plan.stdin_streamed:
            self._stdin = StdinFeed(self._directory, self._selector)
        stdin = self._stdin.reading if self._stdin is not None else content_at_start(plan)
        streams = (stdin, *(output.writing for output in self._outputs))
        self._pid, self._report = start_program(plan, self._group, streams, bounded)
        self._selector.register(self._report, selectors.EVENT_READ, lambda _: self._on_report())
        for output in self._outputs:
            output.started()
        if self._stdin is not None:
            self._stdin.started()
        else:
            os.close(stdin)

    def _on_report(self) -> None:
        assert self._report is not None  # noqa: S101 - it is what became readable
        report = os.read(self._report, MAX_REPORT_BYTES)
        self._selector.unregister(self._report)
        os.close(self._report)
        self._report = None
        self._failure = failure_of(report, self._plan)
        if self._failure is None and self._control is not None:
            started = {"pid": self._pid, "start_ticks": start_ticks(self._pid), "start_time": self._start_ms}
            with contextlib.suppress(OSError):  # the ending says it too
                write_document(self._directory, STARTED_FILE, started)
            self._control.tell({"started": started})

    def _stop(self, cause: str, reason: str | None, grace_seconds: float) -> None:
        now = time.monotonic()
        if self._status is not None:
            return  # it has ended already, and what it left behind is ended in a moment
        if self._kill_at is not None:
            self._kill_at = min(self._kill_at, now + grace_seconds)
            return
        self._cause, self._reason = cause, reason
        self._kill_at = now + grace_seconds
        if grace_seconds > 0:
            signal_all(self._everybody, signal.SIGTERM)
            signal_all(self._everybody, signal.SIGCONT)

    def _look(self, now: float) -> None:
        """Do what is due."""
        for output in self._outputs:
            output.wake(now)
        self._tell_sizes()
        if self._kill_at is None and self._status is None and now >= self._timeout_at:
            self._stop(TIMEOUT, None, self._plan.grace_seconds)
        linger = self._linger_until
        if (self._kill_at is not None and now >= self._kill_at) or (linger is not None and now >= linger):
            self._kill()

    @property
    def _timeout_at(self) -> float:
        return self._started_monotonic + self._plan.timeout_seconds

    @property
    def _linger_until(self) -> float | None:
        """When what is left is killed, although nobody asked; None while the program lives, or a grace is given."""
        if self._status is None or self._kill_at is not None:
            return None
        return self._exited_at if all(output.ended for output in self._outputs) else self._exited_at + LINGER_SECONDS

    def _patience(self) -> float | None:
        deadlines = [output.rests_until for output in self._outputs]
        deadlines += [self._linger_until, self._kill_at]
        if self._kill_at is None and self._status is None:
            deadlines.append(self._timeout_at)
        given = [deadline for deadline in deadlines if deadline is not None]
        return min(LONGEST_PATIENCE_SECONDS, max(0.0, min(given) - time.monotonic())) if given else None

    def _over(self) -> bool:
        return self._status is not None and self._report is None and (self._alone or self._killed)

    def _everybody(self) -> set[int]:
        self.children_changed()  # whoever has ended is not meant
        return (self._group.members() | descendants(os.getpid())) - {os.getpid()}

    def _kill(self) -> None:
        self._group.kill()
        gone = kill_all(self._everybody, timeout_seconds=KILL_SECONDS)
        self.children_changed()
        # Whoever cannot be killed waits in the kernel for a device, and is dead as soon as it comes back from there.
        self._killed = self._status is not None
        self._kill_at = time.monotonic() + KILL_SECONDS
        if not gone and self._reason is None:
            self._reason = "some of its processes could not be killed: they wait in the kernel"

    def _tell_sizes(self) -> None:
        if self._control is not None and self._outputs:
            sizes = [number for one in self._outputs for number in (one.spool.size_bytes, one.spool.dropped_bytes)]
            newest: Message = {"output": sizes}
            if self._stdin is not None:
                newest["stdin"] = [self._stdin.passed_bytes, self._stdin.open]
            self._control.tell_newest(newest)

    def _ending(self) -> dict[str, Any]:
        for output in self._outputs:
            if self._pid:
                output.finish()
        if self._stdin is not None:
            self._stdin.close()
        status = self._status or 0
        ran = self._failure is None
        return {
            "failed": self._failure,
            "cause": self._cause,
            "reason": self._reason,
            "pid": self._pid or None,
            "exit_code": os.WEXITSTATUS(status) if ran and os.WIFEXITED(status) else None,
            "signal": os.WTERMSIG(status) if ran and os.WIFSIGNALED(status) else None,
            "start_time": self._start_ms,
            "end_time": max(self._start_ms, int(time.time() * 1000)),
            "output": [[one.spool.size_bytes, one.spool.dropped_bytes, one.spool.refused] for one in self._outputs],
            "usage": self._usage(),
        }

    def _usage(self) -> dict[str, Any]:
        reaped, counted = resource.getrusage(resource.RUSAGE_CHILDREN), self._group.usage()
        cpu_seconds = counted.cpu_seconds if counted.cpu_seconds is not None else reaped.ru_utime + reaped.ru_stime
        return {
            "cpu_seconds": round(cpu_seconds, 6),
            "memory_peak_bytes": counted.memory_peak_bytes or self._max_rss_bytes,
            "elapsed_seconds": round((self._exited_at or time.monotonic()) - self._started_monotonic, 6),
            "oom_kills": counted.oom_kills,
        }
