"""Fetching the outputs of commands that have ended, before their nodes forget them or are gone.

Theory of operation. The transaction that ends a command notes that its output is wanted; that row is all that must
survive. What is wanted is fetched, a few at once, one of a node at a time, and each within a deadline, apart from the
dispatcher's steps, so that no command waits for it. The bytes go to a file, durably, then the row says so. A node
that cannot be asked is asked again, rarely, until it would have forgotten the output itself.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

from control_plane.errors import ApiError, ErrorCode
from control_plane.fleet.node_commands import NodeAddress, NodeCommands
from control_plane.fleet.node_output import NodeOutput, Wanted
from control_plane.fleet.node_times import read_thinned
from control_plane.history.event_log import EventLog
from control_plane.history.events import Event, EventKind
from control_plane.metrics import ControlPlaneMetrics
from control_plane.node_work import NodeWork, Piece, Rest
from control_plane.outputs.cuts import Cut, cuts_of
from control_plane.outputs.files import OutputFiles
from control_plane.storage import commands, kept_outputs
from control_plane.storage.beginning import begun, look_for_ever
from control_plane.storage.commands import CommandKey
from control_plane.storage.database import Database
from control_plane.storage.errors import StorageError
from control_plane.storage.records.commands import Command, KeptOutput
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger
from trunkline.runtime.threads import in_thread

MOST_AT_ONCE = 8
FETCH_SECONDS = 60.0
# Of the times of one stream; a row of the database has them.
MOST_MARKS = 200
FIRST_PAUSE_SECONDS = 4.0
LONGEST_PAUSE_SECONDS = 600.0
LOOK_SECONDS = 30.0
_NOT_LOOKED_FOR = "outputs.not_looked_for"


class _NotWholeError(Exception):
    """The node gave fewer bytes than it had counted, or what it gave could not be written."""


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
        self._log = log
        self._most_bytes = most_bytes
        self._work = NodeWork[CommandKey, Piece](
            self._run_fetch,
            Piece,
            most_at_once=MOST_AT_ONCE,
            most_of_a_node=1,
            counted=metrics.outputs_wanted.set,
            clock=clock,
            rng=rng,
            name="trunkline-output-fetch",
        )

    async def run(self) -> None:
        """Take up what a previous process left, and fetch for ever."""
        await begun(self._sweep, self._log, _NOT_LOOKED_FOR)
        for key, node_id in await begun(self._recorded, self._log, _NOT_LOOKED_FOR):
            self.wanted(key, node_id)
        async with asyncio.TaskGroup() as group:
            looking = look_for_ever(self._take_up_missed, LOOK_SECONDS, self._log, _NOT_LOOKED_FOR)
            group.create_task(looking, name="trunkline-output-look")
            await self._work.run()

    async def _recorded(self) -> Sequence[tuple[CommandKey, str]]:
        """Return which outputs are wanted, with their nodes."""
        async with self._database.read() as session:
            return await kept_outputs.wanted(session)

    async def _sweep(self) -> None:
        """Remove files of outputs that are not kept, which a crash has left; a few hundred are looked at at once."""
        pieces, swept = self._files.pieces(), 0
        while piece := await in_thread(next, pieces, None):
            async with self._database.read() as session:
                names = [key.command_id for key in piece]
                kept = await kept_outputs.kept_among(session, piece[0].workspace_id, names)
            left = [key for key in piece if key.command_id not in kept]
            await in_thread(self._files.remove, left)
            swept += len(left)
        if swept:
            self._log.info("outputs.swept", files=swept)

    async def _take_up_missed(self) -> None:
        """Take up outputs that are wanted, though it was not heard here that the end of their commands was recorded."""
        for key, node_id in await self._recorded():
            if key not in self._work:
                self.wanted(key, node_id)

    def wanted(self, key: CommandKey, node_id: str) -> None:
        """Fetch the output of a command now; its row says that it is wanted."""
        self._work.kick(key, node_id)

    def returned(self, node_id: str) -> None:
        """Fetch what is wanted of a node that has come back."""
        self._work.kick_node(node_id)

    async def _run_fetch(self, key: CommandKey, piece: Piece) -> float | Rest:
        try:
            if await self._fetch(key):
                return Rest.DONE
        except (StorageError, _NotWholeError) as error:
            self._log.error("output.not_kept", command_id=key.command_id, reason=str(error))
        except Exception as error:  # noqa: BLE001 - a fault of ours with one output must not stop all others
            self._log.error("output.fetch_failed", command_id=key.command_id, exc_info=error)
        return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(piece.attempt, 16))

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
        async def find_address() -> NodeAddress:
            return address

        content = bytearray()
        for stream, cut in zip(("stdout", "stderr"), cuts, strict=True):
            head = Wanted(find_address, command.command_id, stream, 0, length_bytes=cut.head_bytes)
            tail_at = cut.size_bytes - cut.tail_bytes
            tail = Wanted(find_address, command.command_id, stream, tail_at, length_bytes=cut.tail_bytes)
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
