"""Fetching the outputs of commands that have ended, before their nodes forget them or are gone.

Theory of operation. The transaction that ends a command notes that its output is wanted; that row is all that must
survive. One loop fetches what is wanted, a few at once, one of a node at a time, and each within a deadline, apart from
the dispatcher's steps, so that no command waits for it. The bytes go to a file, durably, then the row says so. A node
that cannot be asked is asked again, rarely, until it would have forgotten the output itself.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from control_plane.errors import ApiError, ErrorCode
from control_plane.fleet.node_commands import NodeAddress, NodeCommands
from control_plane.fleet.node_output import NodeOutput, Wanted
from control_plane.fleet.node_times import read_thinned
from control_plane.history.event_log import EventLog
from control_plane.history.events import Event, EventKind
from control_plane.metrics import ControlPlaneMetrics
from control_plane.outputs.cuts import Cut, cuts_of
from control_plane.outputs.files import OutputFiles
from control_plane.storage import commands, kept_outputs
from control_plane.storage.beginning import begun
from control_plane.storage.commands import CommandKey
from control_plane.storage.database import Database
from control_plane.storage.errors import StorageError
from control_plane.storage.records.commands import Command, KeptOutput
from control_plane.timetable import Timetable
from control_plane.turns import Turns
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger
from trunkline.runtime.threads import in_thread

MOST_AT_ONCE = 8
FETCH_SECONDS = 60.0
# Of the times of one stream; a row of the database has them.
MOST_MARKS = 200
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 600.0
LOOK_SECONDS = 30.0


class _NotWholeError(Exception):
    """The node gave fewer bytes than it had counted, or what it gave could not be written."""


@dataclass(slots=True)
class _Entry:
    node_id: str
    attempt: int = 0
    running: bool = False


class OutputKeeper:
    """Keeps up to `most_bytes` of each command's output; 0 keeps nothing."""

    def __init__(
        self,
        *,
        database: Database,
        nodes: NodeCommands,
        files: OutputFiles,
        events: EventLog,
        metrics: ControlPlaneMetrics,
        clock: Clock,
        rng: random.Random,
        log: Logger,
        most_bytes: int,
    ) -> None:
        self._database = database
        self._nodes = nodes
        self._files = files
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._rng = rng
        self._log = log
        self._most_bytes = most_bytes
        self._entries: dict[CommandKey, _Entry] = {}
        self._of_node: defaultdict[str, set[CommandKey]] = defaultdict(set)
        self._timetable = Timetable[CommandKey](clock)
        self._turns = Turns[CommandKey](1)
        self._slots = asyncio.Semaphore(MOST_AT_ONCE)

    async def run(self) -> None:
        """Take up what a previous process left, and fetch for ever."""
        left, known = await begun(self._recorded, self._log, "outputs.not_looked_for")
        swept = await in_thread(self._files.sweep, known)
        if swept:
            self._log.info("outputs.swept", files=swept)
        for key, node_id in left:
            self.wanted(key, node_id)
        async with asyncio.TaskGroup() as fetches:
            fetches.create_task(self._keep_looking(), name="trunkline-output-look")
            while True:
                key = await self._timetable.next()
                entry = self._entries.get(key)
                if entry is None or entry.running or not self._turns.begin(entry.node_id, key):
                    continue
                await self._slots.acquire()
                entry.running = True
                fetches.create_task(self._run_fetch(key, entry), name="trunkline-output-fetch")

    async def _recorded(self) -> tuple[Sequence[tuple[CommandKey, str]], set[CommandKey]]:
        """Return which outputs are wanted, with their nodes, and which are kept."""
        async with self._database.read() as session:
            return await kept_outputs.wanted(session), await kept_outputs.kept_keys(session)

    async def _keep_looking(self) -> None:
        """Take up outputs that are wanted, though it was not heard here that the end of their commands was recorded."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                async with self._database.read() as session:
                    left = await kept_outputs.wanted(session)
            except StorageError as error:
                self._log.error("outputs.not_looked_for", reason=str(error))
                continue
            for key, node_id in left:
                if key not in self._entries:
                    self.wanted(key, node_id)

    def wanted(self, key: CommandKey, node_id: str) -> None:
        """Fetch the output of a command now; its row says that it is wanted."""
        self._entries.setdefault(key, _Entry(node_id))
        self._of_node[node_id].add(key)
        self._timetable.set(key, 0.0)
        self._metrics.outputs_wanted.set(len(self._entries))

    def returned(self, node_id: str) -> None:
        """Fetch what is wanted of a node that has come back."""
        for key in self._of_node.get(node_id, ()):
            self._entries[key].attempt = 0
            self._timetable.set(key, 0.0)

    async def _run_fetch(self, key: CommandKey, entry: _Entry) -> None:
        done = False
        try:
            done = await self._fetch(key)
        except (StorageError, _NotWholeError) as error:
            self._log.error("output.not_kept", command_id=key.command_id, reason=str(error))
        except Exception as error:  # noqa: BLE001 - a fault of ours with one output must not stop all others
            self._log.error("output.fetch_failed", command_id=key.command_id, exc_info=error)
        finally:
            entry.running = False
            self._slots.release()
            if (waiting := self._turns.end(entry.node_id)) is not None:
                self._timetable.set(waiting, 0.0)
        if done:
            self._drop(key)
            self._metrics.outputs_wanted.set(len(self._entries))
            return
        entry.attempt += 1
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(entry.attempt, 16))
        self._timetable.set(key, pause * self._rng.uniform(0.8, 1.2))

    def _drop(self, key: CommandKey) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._of_node[entry.node_id].discard(key)
            if not self._of_node[entry.node_id]:
                del self._of_node[entry.node_id]

    async def _fetch(self, key: CommandKey) -> bool:
        """Fetch one output; returns whether nothing is left to do about it."""
        async with self._database.read() as session:
            command, row = await commands.find(session, key), await kept_outputs.find(session, key)
            place = await commands.node_of(session, command) if command is not None else None
        if command is None or row is None or row.state != kept_outputs.WANTED:
            return True
        if place is None or self._clock.now() * 1000 >= row.fetch_before:
            return await self._end(key, _gone)
        cuts = cuts_of(row.stdout_bytes, row.stderr_bytes, self._most_bytes)
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                content = await self._read(NodeAddress(*place), command, cuts)
        except TimeoutError:
            return False
        except ApiError as error:
            if error.code is ErrorCode.RESOURCE_DOES_NOT_EXIST:
                return await self._end(key, _gone)
            return False
        await self._write(key, content)
        times, now_ms = await self._times(NodeAddress(*place), command), int(self._clock.now() * 1000)
        return await self._end(key, lambda row: _kept(row, cuts, times, now_ms))

    async def _times(self, address: NodeAddress, command: Command) -> dict[str, Any] | None:
        """Return when what is kept was written, as far as the node says it: its agent may be of an older release."""
        times = {}
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                for stream in ("stdout", "stderr"):
                    times[stream] = await read_thinned(
                        self._nodes, address, command.command_id, stream=stream, most=MOST_MARKS
                    )
        except (ApiError, TimeoutError):
            return None
        return times

    async def _read(self, address: NodeAddress, command: Command, cuts: tuple[Cut, Cut]) -> bytes:
        content = bytearray()
        for stream, cut in zip(("stdout", "stderr"), cuts, strict=True):
            head = Wanted(address, command.command_id, stream, 0, length_bytes=cut.head_bytes)
            tail_at = cut.size_bytes - cut.tail_bytes
            tail = Wanted(address, command.command_id, stream, tail_at, length_bytes=cut.tail_bytes)
            for wanted in (head, tail):
                content += await self._read_part(wanted)
        return bytes(content)

    async def _read_part(self, wanted: Wanted) -> bytes:
        part = bytearray()
        if wanted.length_bytes:
            async with NodeOutput(self._nodes, wanted, _never_asked) as output:
                async for chunk in output.chunks():
                    part += chunk
        if len(part) != wanted.length_bytes:
            raise _NotWholeError("the node gave fewer bytes than it had counted")
        return bytes(part)

    async def _write(self, key: CommandKey, content: bytes) -> None:
        try:
            await in_thread(self._files.write, key, content)
        except OSError as error:
            raise _NotWholeError(error.strerror or str(error)) from None

    async def _end(self, key: CommandKey, change: Callable[[KeptOutput], None]) -> bool:
        async with self._database.write() as session:
            row, command = await kept_outputs.find(session, key), await commands.find(session, key)
            if row is not None:
                change(row)
                if command is not None:
                    self._events.append(session, command, _event_of(row))
        if row is None:  # its command or workspace was deleted meanwhile
            await in_thread(self._files.remove, [key])
        else:
            self._metrics.outputs.labels(row.state).inc()
            self._events.ring(key)
        return True


def _kept(row: KeptOutput, cuts: tuple[Cut, Cut], times: dict[str, Any] | None, now_ms: int) -> None:
    stdout, stderr = cuts
    row.state, row.keep_time, row.times = kept_outputs.KEPT, now_ms, times
    row.stdout_head_bytes, row.stdout_tail_bytes = stdout.head_bytes, stdout.tail_bytes
    row.stderr_head_bytes, row.stderr_tail_bytes = stderr.head_bytes, stderr.tail_bytes
    row.kept_bytes = stdout.kept_bytes + stderr.kept_bytes


def _event_of(row: KeptOutput) -> Event:
    if row.state == kept_outputs.GONE:
        return Event(EventKind.OUTPUT_GONE)
    whole = row.stdout_bytes + row.stderr_bytes
    return Event(EventKind.OUTPUT_KEPT, {"kept_bytes": row.kept_bytes, "cut_bytes": whole - row.kept_bytes})


def _gone(row: KeptOutput) -> None:
    row.state = kept_outputs.GONE


async def _never_asked() -> int | None:
    return None
