"""The worker processes: started, linked with each other, started again when they end, and ended.

Theory of operation. Each worker has a place, a number from 1, and a task here that keeps it filled. A worker is started
by exec, with one end of its channel and one of the socket that further descriptors come over; what it is to know is its
first message. It has to say something every few seconds, or it is killed and the next one started, after a backoff.
What the system refuses at a bad moment, a process or descriptors, is tried again: the other workers go on meanwhile.
So is a worker of another release, which was installed since this process was started; with none of its own left, the
relay ends, to be started again as that.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relay.workers.messages import OTHER_RELEASE_STATUS, Channel
from relay.workers.passing import End, hand_over
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.daemon import EXIT_TEMPORARY, StartError
from trunkline.runtime.logs import Logger

WORKER_PROGRAM: Final = (sys.executable, "-P", "-m", "relay.workers.worker")
SILENT_SECONDS: Final = 15.0
"""A worker that says nothing for so long is killed; it tells how it is once a second."""
START_SECONDS: Final = 60.0
"""The same for one that has not served yet."""
REMARK_SECONDS: Final = 3.0
"""A worker that has said nothing for so long is worth a remark."""
LOOK_SECONDS: Final = 1.0
STEADY_SECONDS: Final = 60.0
"""A worker that has lived so long was no failure to start."""
CUT_OFF_SECONDS: Final = 2.0
"""A worker whose channel has ended has so long to end by itself."""
LINK_AGAIN_SECONDS: Final = 1.0
_NOT_FOR_WORKERS: Final = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"})


@dataclass(eq=False, slots=True)
class Child:
    """One worker that runs."""

    place: int
    started_at: float
    heard_at: float
    running: asyncio.subprocess.Process
    passing: socket.socket
    channel: Channel
    serving: bool = False


Spawn = Callable[..., object]


class Children:
    """All workers of the relay."""

    def __init__(
        self,
        *,
        places: int,
        first_words: Callable[[int], dict[str, Any]],
        take: Callable[[int, str, dict[str, Any]], None],
        ended: Callable[[int, bool], None],
        make_backoff: Callable[[], Backoff],
        clock: Clock,
        log: Logger,
        program: Sequence[str] = WORKER_PROGRAM,
    ) -> None:
        """Prepare it.

        Args:
            places: how many workers there are to be.
            first_words: the members of a worker's first message, but for its number and its siblings.
            take: gets what workers say.
            ended: hears of each end, and whether it was asked for.
            make_backoff: for each place.
            clock: the time.
            log: the log.
            program: what a worker runs; it is given two descriptors, of its channel and of what else is handed in.
        """
        self._program = program
        self._places = range(1, places + 1)
        self._first_words = first_words
        self._take = take
        self._ended = ended
        self._make_backoff = make_backoff
        self._clock = clock
        self._log = log
        self._children: dict[int, Child] = {}
        self._to_link: set[tuple[int, int]] = set()
        self._ending = False
        self._all_ended = asyncio.Event()

    # What is asked.

    @property
    def serving(self) -> list[int]:
        """The workers that serve."""
        return [place for place, child in self._children.items() if child.serving]

    @property
    def missing(self) -> list[int]:
        """The places whose worker does not serve, or not yet."""
        serving = self.serving
        return [place for place in self._places if place not in serving]

    @property
    def silent(self) -> list[tuple[int, float]]:
        """The workers that have said nothing for a while, and for how many seconds."""
        now = self._clock.monotonic()
        silences = [(place, now - child.heard_at) for place, child in self._children.items() if child.serving]
        return [(place, seconds) for place, seconds in silences if seconds >= REMARK_SECONDS]

    @property
    def pids(self) -> list[int]:
        """The relay's processes, this one included."""
        return [os.getpid(), *(child.running.pid for child in self._children.values())]

    def send(self, place: int, kind: str, **members: Any) -> None:
        """Say something to one worker, if it is there."""
        child = self._children.get(place)
        if child is not None:
            child.channel.send(kind, **members)

    def send_all(self, kind: str, *, but: int | None = None, **members: Any) -> list[int]:
        """Say something to every worker, or every other one; return which."""
        told = [place for place in self._children if place != but]
        for place in told:
            self.send(place, kind, **members)
        return told

    # Their life.

    async def keep(self, place: int) -> None:
        """Keep a place filled until the end is asked for.

        Raises:
            StartError: the first worker there could not start; or all have ended, and others are of another release.
        """
        backoff = self._make_backoff()
        first = True
        while not self._ending:
            try:
                child = await self._start(place)
            except OSError as error:
                if first:
                    raise StartError(f"worker {place} cannot be started: {error}") from None
                self._log.error("worker.not_started", worker=place, reason=str(error))
                await asyncio.sleep(backoff.next_delay_seconds(self._clock.monotonic()))
                continue
            status = await child.running.wait()
            self._forget(child)
            if first and not child.serving and not self._ending:
                message = f"worker {place} did not start (exit status {status}); its own line in the log says why"
                raise StartError(message, status if status > 0 else os.EX_SOFTWARE)
            first = False
            if self._clock.monotonic() - child.started_at > STEADY_SECONDS:
                backoff.reset()
            if status == OTHER_RELEASE_STATUS:
                self._tell_other_release(place)
            elif status or not self._ending:
                self._log.error("worker.ended", worker=place, status=status)
            if not self._ending:
                await asyncio.sleep(backoff.next_delay_seconds(self._clock.monotonic()))
        if not self._children:
            self._all_ended.set()

    async def watch(self) -> None:
        """Kill workers that say nothing, for ever; time in which this process did not run itself does not count."""
        looked_at = self._clock.monotonic()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = self._clock.monotonic()
            late = max(0.0, now - looked_at - LOOK_SECONDS)
            looked_at = now
            for child in self._children.values():
                child.heard_at += late
                if now - child.heard_at > (SILENT_SECONDS if child.serving else START_SECONDS):
                    self._log.error("worker.silent", worker=child.place, seconds=round(now - child.heard_at, 1))
                    _signal(child, signal.SIGKILL)

    def _tell_other_release(self, place: int) -> None:
        """Say that a worker cannot be replaced.

        Raises:
            StartError: no worker is left.
        """
        reason = "another release was installed while the relay ran"
        if not self._children and not self._ending:
            raise StartError(f"{reason}, and none of its workers is left: start it again", EXIT_TEMPORARY)
        self._log.error("worker.other_release", worker=place, reason=reason, hint="start the relay again")

    def ask_to_end(self) -> None:
        """Have every worker drain and end; none is started again."""
        self._ending = True
        self.send_all("drain")
        if not self._children:
            self._all_ended.set()

    async def all_ended(self) -> None:
        """Wait until no worker is left."""
        await self._all_ended.wait()

    async def stop(self, timeout_seconds: float) -> None:
        """End what is left, at once; kill what has not ended in time."""
        self.send_all("stop")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._all_ended.wait()
        for child in self._children.values():
            _signal(child, signal.SIGKILL)

    # Links between them.

    def link_again(self, one: int, other: int) -> None:
        """Make another link between two workers whose link was lost."""
        pair = (min(one, other), max(one, other))
        if pair not in self._to_link and not self._ending:
            self._to_link.add(pair)
            asyncio.get_running_loop().call_later(LINK_AGAIN_SECONDS, self._link_pair, pair)

    def _link_pair(self, pair: tuple[int, int]) -> None:
        self._to_link.discard(pair)
        one, other = (self._children.get(place) for place in pair)
        if one is not None and other is not None:
            self._link(one, other)

    def _link(self, one: Child, other: Child) -> None:
        try:
            _link(one, other)
        except OSError as error:
            self._log.error("workers.not_linked", workers=(one.place, other.place), reason=str(error))
            self.link_again(one.place, other.place)

    # Starting.

    async def _start(self, place: int) -> Child:
        """Start a worker; raises OSError where the system has no process or descriptors.

        Where it fails, or is given up, neither a process nor descriptors are left.
        """
        channel = Channel(lambda kind, members: self._said(place, kind, members), lambda: self._cut_off(place))
        with contextlib.ExitStack() as kept, contextlib.ExitStack() as handed:
            ours, theirs = socket.socketpair()
            kept.enter_context(ours)
            handed.enter_context(theirs)
            passing, their_passing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            kept.enter_context(passing)
            handed.enter_context(their_passing)
            ours.setblocking(False)
            passing.setblocking(False)
            descriptors = theirs.fileno(), their_passing.fileno()
            running = await asyncio.create_subprocess_exec(
                *self._program, *map(str, descriptors),
                stdin=asyncio.subprocess.DEVNULL, pass_fds=descriptors, env=_environment(),
            )  # fmt: skip
            try:
                await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=ours)
            except BaseException:
                running.kill()
                await running.wait()
                raise
            kept.pop_all()
        now = self._clock.monotonic()
        child = Child(place, now, now, running, passing, channel)
        siblings = list(self._children)
        self._children[place] = child
        channel.send("start", worker=place, siblings=siblings, pids=self.pids, **self._first_words(place))
        for sibling in siblings:
            self._link(child, self._children[sibling])
        self.send_all("pids", but=place, pids=self.pids)
        if self._ending:
            channel.send("drain")
        return child

    def _said(self, place: int, kind: str, members: dict[str, Any]) -> None:
        child = self._children.get(place)
        if child is None:
            return
        child.heard_at = self._clock.monotonic()
        if kind == "serving":
            child.serving = True
        self._take(place, kind, members)

    def _cut_off(self, place: int) -> None:
        """The channel has ended: so does the worker, or is made to."""
        child = self._children.get(place)
        if child is not None and not self._ending:
            asyncio.get_running_loop().call_later(CUT_OFF_SECONDS, _signal, child, signal.SIGKILL)

    def _forget(self, child: Child) -> None:
        del self._children[child.place]
        child.channel.close()
        child.passing.close()
        self.send_all("gone", worker=child.place)
        self.send_all("pids", pids=self.pids)
        self._ended(child.place, self._ending)


def _link(one: Child, other: Child) -> None:
    """Make a link between two workers."""
    with contextlib.ExitStack() as stack:
        ends = [stack.enter_context(end) for end in socket.socketpair()]
        hand_over(one.passing, End(other.place, True, ends[0]))
        hand_over(other.passing, End(one.place, False, ends[1]))


def _signal(child: Child, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.running.send_signal(number)


def _environment(environ: Iterable[tuple[str, str]] | None = None) -> dict[str, str]:
    """What workers get of the environment: not what is meant for the service's main process."""
    return {name: value for name, value in (environ or os.environ.items()) if name not in _NOT_FOR_WORKERS}
