"""Work for many nodes: so many pieces of it at once, few of one node, each run again until it is done.

Theory of operation. A piece has a key and belongs to a node. `kick` has it run now; what a run comes to says when the
next one is due. One loop takes what is due: no piece runs twice at once, one that is kicked meanwhile runs once more,
and one whose node has as many under way as it may waits for one of them to end, in no other node's place. Pieces are a
timetable in memory: what matters, whoever owns them has on the disk, and makes them again from it at the start.
"""

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

from control_plane.timetable import Timetable
from control_plane.turns import Turns
from trunkline.runtime.clock import Clock

JITTER = 0.2
"""The part of a pause that it may be shorter or longer, so that what began together does not stay so."""


class Rest(Enum):
    """What a run may come to in place of the pause until the next one, in seconds."""

    DONE = "done"
    UNTIL_KICKED = "until kicked"


@dataclass(slots=True)
class Piece:
    """One piece of work for a node; may be derived from, to keep more between its runs.

    `attempt` counts the runs since it was kicked, for pauses that grow; a run that has come on may put it back to 0.
    """

    node_id: str
    attempt: int = 0
    runs: int = field(default=0, init=False)
    running: bool = field(default=False, init=False)
    again: bool = field(default=False, init=False)
    changed: asyncio.Event = field(default_factory=asyncio.Event, init=False)


K = TypeVar("K", bound=Hashable)
P = TypeVar("P", bound=Piece)


class NodeWork(Generic[K, P]):
    """Runs pieces, at most `most_at_once` and `most_of_a_node` of one node.

    How many pieces there are, and how long a run takes, is bounded by whoever owns them.
    """

    def __init__(
        self,
        run_piece: Callable[[K, P], Awaitable[float | Rest]],
        make_piece: Callable[[str], P],
        *,
        most_at_once: int,
        most_of_a_node: int,
        counted: Callable[[int], None],
        clock: Clock,
        rng: random.Random,
        name: str,
    ) -> None:
        """Prepare; nothing runs before `run`.

        Args:
            run_piece: runs a piece once, and returns the pause until it is due again (jitter comes on top), or a rest.
                It raises nothing that is not to end all the work: faults of one piece are its own to catch.
            make_piece: makes a piece for the node of this id.
            most_at_once: so many run at once, of all nodes.
            most_of_a_node: so many of one node, so that one which answers slowly, or never, holds up no other.
            counted: is told how many pieces there are, whenever that changes.
            clock: when pieces are due.
            rng: the jitter.
            name: of the tasks.
        """
        self._run_piece = run_piece
        self._make_piece = make_piece
        self._counted = counted
        self._rng = rng
        self._name = name
        self._pieces: dict[K, P] = {}
        self._of_node: defaultdict[str, set[K]] = defaultdict(set)
        self._timetable = Timetable[K](clock)
        self._turns = Turns[K](most_of_a_node)
        self._places = asyncio.Semaphore(most_at_once)

    def __contains__(self, key: K) -> bool:
        return key in self._pieces

    def __len__(self) -> int:
        return len(self._pieces)

    async def run(self) -> None:
        """Run whatever is due, for ever; a cancel ends all runs, and waits for them.

        Raises:
            BaseExceptionGroup: a run raised something, and the others were ended.
        """
        async with asyncio.TaskGroup() as runs:
            while True:
                key = await self._timetable.next()
                piece = self._pieces.get(key)
                if piece is None or piece.running or not self._turns.begin(piece.node_id, key):
                    continue
                await self._places.acquire()
                piece.running, piece.again = True, False
                runs.create_task(self._run_once(key, piece), name=self._name)

    def kick(self, key: K, node_id: str) -> None:
        """Run a piece now, which is made if there is none; one that is running is run once more."""
        piece = self._pieces.get(key)
        if piece is None:
            piece = self._pieces[key] = self._make_piece(node_id)
            self._of_node[node_id].add(key)
            self._counted(len(self._pieces))
        piece.attempt = 0
        piece.again = True
        if not piece.running:
            self._timetable.set(key, 0.0)

    def kick_known(self, key: K) -> None:
        """Run a piece now, if it is not done yet."""
        piece = self._pieces.get(key)
        if piece is not None:
            self.kick(key, piece.node_id)

    def kick_node(self, node_id: str) -> None:
        """Run all pieces of a node now, since it has come back."""
        for key in self._of_node.get(node_id, ()):
            self.kick(key, node_id)

    async def settle(self, key: K, node_id: str, timeout_seconds: float) -> bool:
        """Run a piece from now on, and wait for the end of that run; False if it took longer than the timeout."""
        piece = self._pieces.get(key)
        more = 2 if piece is not None and piece.running else 1
        self.kick(key, node_id)
        return await self.wait_for_runs(key, more, timeout_seconds)

    async def wait_for_runs(self, key: K, more: int, timeout_seconds: float) -> bool:
        """Wait until so many more runs of a piece have ended, or it is done; False if that took too long."""
        piece = self._pieces.get(key)
        wanted = piece.runs + more if piece is not None else 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while piece is not None and piece.runs < wanted and self._pieces.get(key) is piece:
                    await piece.changed.wait()
                return True
        return False

    async def _run_once(self, key: K, piece: P) -> None:
        try:
            came_to = await self._run_piece(key, piece)
        finally:
            piece.running = False
            self._places.release()
            if (waiting := self._turns.end(piece.node_id)) is not None:
                self._timetable.set(waiting, 0.0)
        piece.attempt += 1
        piece.runs += 1
        if came_to is Rest.DONE:
            self._drop(key, piece.node_id)
        elif piece.again:
            self._timetable.set(key, 0.0)
        elif came_to is not Rest.UNTIL_KICKED:
            self._timetable.set(key, came_to * self._rng.uniform(1.0 - JITTER, 1.0 + JITTER))
        piece.changed.set()
        piece.changed = asyncio.Event()

    def _drop(self, key: K, node_id: str) -> None:
        del self._pieces[key]
        self._of_node[node_id].discard(key)
        if not self._of_node[node_id]:
            del self._of_node[node_id]
        self._counted(len(self._pieces))
