"""Watches: calls that nodes answer once a command has changed, so that its end is known at once without polling.

Theory of operation. A node whose agent can do it numbers the states of a command (`revision`). Once such a command is
delivered, a call is held open that names the last revision seen; the node answers it when there is another one, or
after `WAIT_SECONDS`. What the answer says is not taken over: it only makes the dispatcher take its next step now, so
that there is one way in which states are heard of. A watch that fails ends, and the dispatcher goes on polling; its
next answer from the node begins another. Watches hold none of the dispatcher's places, and are bounded in number.

A command has a handful of states. A node that always has another one to tell, or whose watches always fail, is asked
ever more slowly (`Pace`), so that it costs no more than one that is polled.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from control_plane.fleet.command_steps import BadAnswerError, read_answer
from control_plane.fleet.node_commands import CONTENT_READ_SECONDS, LARGEST_ANSWER_BYTES, NodeAddress, NodeCommands
from control_plane.fleet.reach import NotReachedError, UnansweredError
from control_plane.storage.commands import CommandKey
from trunkline.client.errors import TrunklineError

WAIT_SECONDS = 25
LEAST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 10.0
PATIENT_SECONDS = 5.0
FREE_ANSWERS = 16
"""So many quick answers are usual: a command's states, and those of a relay or an agent that is restarted."""

FindPlace = Callable[[CommandKey], Awaitable[NodeAddress | None]]
"""Gives where a command runs, or None once it has ended or its node was deleted."""


@dataclass(slots=True)
class Pace:
    """How fast the node of one command is asked: as it likes at first, and ever more slowly while it likes it fast."""

    quick: int = 0

    def pause_seconds(self, took_seconds: float) -> float:
        """Return how long to wait after an answer that took so long."""
        self.quick = 0 if took_seconds >= PATIENT_SECONDS else self.quick + 1
        return min(LONGEST_PAUSE_SECONDS, LEAST_PAUSE_SECONDS * 2.0 ** min(max(0, self.quick - FREE_ANSWERS), 16))


class CommandWatches:
    """At most `most` watches; belongs to one dispatcher, which is told by `on_change` and polls what is not watched."""

    def __init__(
        self, *, nodes: NodeCommands, find_place: FindPlace, on_change: Callable[[CommandKey], None], most: int
    ) -> None:
        self._nodes = nodes
        self._find_place = find_place
        self._on_change = on_change
        self._most = most
        self._tasks: dict[CommandKey, asyncio.Task[None]] = {}

    def __contains__(self, key: CommandKey) -> bool:
        return key in self._tasks

    def __len__(self) -> int:
        return len(self._tasks)

    def watch(self, key: CommandKey, revision: int, pace: Pace) -> None:
        """Watch a command of which this revision is known; its pace outlives each watch."""
        if key in self._tasks or len(self._tasks) >= self._most:
            return
        task = asyncio.create_task(self._watch(key, revision, pace), name="trunkline-command-watch")
        self._tasks[key] = task
        task.add_done_callback(lambda ended: self._forget(key, ended))

    def end(self, key: CommandKey) -> None:
        """Watch a command no longer: it has ended."""
        task = self._tasks.get(key)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """End all watches."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, key: CommandKey, seen: int, pace: Pace) -> None:
        """Ask again and again; an agent that was restarted counts from the beginning, so any other revision is news."""
        loop = asyncio.get_running_loop()
        while (address := await self._find_place(key)) is not None:
            asked_at = loop.time()
            revision = await self._ask(address, key, seen)
            if revision is not None and revision != seen:
                seen = revision
                self._on_change(key)
            await asyncio.sleep(pace.pause_seconds(loop.time() - asked_at))
            if revision is None:
                return

    async def _ask(self, address: NodeAddress, key: CommandKey, seen: int) -> int | None:
        """Return the revision that the node has now, or None if it cannot be watched."""
        try:
            answer = await self._nodes.watch(address, key.command_id, seen=seen, wait_seconds=WAIT_SECONDS)
            body = await answer.response.read(limit_bytes=LARGEST_ANSWER_BYTES, timeout_seconds=CONTENT_READ_SECONDS)
            return read_answer(body).revision if answer.response.status == 200 else None
        except (NotReachedError, UnansweredError, TrunklineError, BadAnswerError):
            return None

    def _forget(self, key: CommandKey, ended: asyncio.Task[None]) -> None:
        del self._tasks[key]
        if not ended.cancelled():
            ended.exception()  # a fault of the database's, say: the dispatcher's own polling meets it too
            self._on_change(key)
