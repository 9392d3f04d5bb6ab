"""What workers say of their links: passed on to the others, and judged where it takes one who knows all of them."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from relay.admission.quotas import Party
from relay.links.supersede import Verdict
from relay.workers.directory import Directory, Entry
from relay.workers.shared_quotas import Used

CHALLENGE_MARGIN_SECONDS = 2.0


class Workers(Protocol):
    """The workers, to be spoken to."""

    def send(self, place: int, kind: str, **members: Any) -> None:
        """Say something to one worker, if it is there."""
        ...

    def send_all(self, kind: str, *, but: int | None = None, **members: Any) -> list[int]:
        """Say something to every worker, or every other one; return which."""
        ...

    def link_again(self, one: int, other: int) -> None:
        """Make another link between two workers whose link was lost."""
        ...


class Switchboard:
    """The parent's part in what workers have to do with each other: one method for each type of message."""

    def __init__(
        self,
        workers: Workers,
        *,
        spawn: Callable[[Coroutine[Any, Any, object]], object],
        counted: Callable[[int], None],
        ping_seconds: float,
    ) -> None:
        """Begin without links; `counted` hears how many nodes have one, and `ping_seconds` is what a rival has."""
        self._workers = workers
        self._spawn = spawn
        self._counted = counted
        self._ping_seconds = ping_seconds
        self._directory = Directory()
        self._links: dict[int, dict[str, int]] = {}
        self._open: dict[int, dict[Party, int]] = {}
        self._questions = itertools.count(1)
        self._challenges: dict[int, tuple[int, asyncio.Future[bool]]] = {}

    def ended(self, worker: int) -> None:
        """A worker has ended, and all its links with it."""
        self._links.pop(worker, None)
        self._open.pop(worker, None)
        self._directory.lost(worker)
        self._counted(len(self._directory))
        for holder, answer in list(self._challenges.values()):
            if holder == worker and not answer.done():
                answer.set_result(False)

    def on_serving(self, worker: int) -> None:
        """A worker serves: it is told how many links the others have, and what is open there that quotas count."""
        for other, links in self._links.items():
            if other != worker:
                self._workers.send(worker, "links", worker=other, links=links)
        for other, opened in self._open.items():
            if other != worker:
                used = [(*party, 0, 0, calls) for party, calls in opened.items()]
                self._workers.send(worker, "used", worker=other, used=used)

    def on_linked(self, worker: int, other: int) -> None:
        """A worker has a link to another one: it is told what that one has."""
        for entry in self._directory:
            if entry.worker == other and entry.current:
                self._workers.send(worker, "opened", **entry.as_message())

    def on_unlinked(self, worker: int, other: int) -> None:
        """A worker has lost its link to another one."""
        self._workers.link_again(worker, other)

    def on_worn(self, worker: int, other: int) -> None:
        """A worker's link to another one has few stream ids left: a new link takes its place."""
        self._workers.link_again(worker, other)

    def on_opened(self, worker: int, **members: Any) -> None:
        """A worker has attached a node's link."""
        entry = Entry(worker=worker, **members)
        if self._directory.opened(entry):
            self._workers.send_all("opened", but=worker, **entry.as_message())
            self._counted(len(self._directory))
        else:
            self._workers.send(worker, "outdone", number=entry.number)

    def on_retired(self, worker: int, number: int, *, gone: bool) -> None:
        """A link takes no new calls."""
        self._tell_closed(self._directory.retired(worker, number, gone=gone))

    def on_closed(self, worker: int, number: int) -> None:
        """A link has ended."""
        self._tell_closed(self._directory.closed(worker, number))
        self._counted(len(self._directory))

    def on_links(self, worker: int, links: dict[str, int]) -> None:
        """A worker has so many links of these workspaces."""
        held = self._links.setdefault(worker, {})
        held.update(links)
        for workspace_id in [workspace_id for workspace_id in links if not held[workspace_id]]:
            del held[workspace_id]
        self._workers.send_all("links", but=worker, worker=worker, links=links)

    def on_used(self, worker: int, used: list[Used]) -> None:
        """A worker's calls have used so much of the quotas."""
        opened = self._open.setdefault(worker, {})
        for workspace_id, sender, _, _, calls in used:
            if calls:
                opened[workspace_id, sender] = calls
            else:
                opened.pop((workspace_id, sender), None)
        self._workers.send_all("used", but=worker, worker=worker, used=used)

    def on_contest(self, worker: int, question: int, node_id: str, instance: str, sequence: int) -> None:
        """A worker has a new link of a node, and asks what becomes of it."""
        verdict = self._directory.judge(node_id, instance, sequence)
        if verdict is Verdict.CHALLENGE:
            self._spawn(self._challenge(worker, question, node_id, instance, sequence))
        else:
            self._workers.send(worker, "judged", question=question, verdict=verdict.name)

    def on_challenged(self, worker: int, question: int, *, alive: bool) -> None:
        """A worker has pinged a rival."""
        _, answer = self._challenges.get(question, (worker, None))
        if answer is not None and not answer.done():
            answer.set_result(alive)

    async def _challenge(self, worker: int, question: int, node_id: str, instance: str, sequence: int) -> None:
        """Have the rival pinged by the worker that holds it, and judge again."""
        rival = self._directory.of_node(node_id)
        if rival is not None and not await self._is_alive(rival):
            rival.gone = True
        verdict = self._directory.judge(node_id, instance, sequence)
        self._workers.send(worker, "judged", question=question, verdict=verdict.name)

    async def _is_alive(self, rival: Entry) -> bool:
        """Ask; a worker that does not answer is taken to have nothing alive."""
        asked = next(self._questions)
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._challenges[asked] = rival.worker, answer
        self._workers.send(rival.worker, "challenge", number=rival.number, question=asked)
        try:
            async with asyncio.timeout(self._ping_seconds + CHALLENGE_MARGIN_SECONDS):
                return await answer
        except TimeoutError:
            return False
        finally:
            del self._challenges[asked]

    def _tell_closed(self, entry: Entry | None) -> None:
        if entry is not None:
            self._workers.send_all(
                "closed", but=entry.worker, node_id=entry.node_id, worker=entry.worker, number=entry.number
            )
