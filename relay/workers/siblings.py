"""The other workers as one worker knows them: the links to them, the nodes that they hold, what is counted together.

It stands between the registry, which it tells of what others have, and the parent, which it tells of its own links. Of
a worker that there is no link to, nothing is kept: once there is one, the parent says anew what that worker has.
"""

import asyncio
import itertools
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from relay.links.listeners import Listener
from relay.links.reached import Reached
from relay.links.supersede import Verdict
from relay.trust.credentials import ListenerGrant
from relay.workers.hop import HeldElsewhere
from trunkline.channel.link import Link
from trunkline.runtime.logs import Logger

Tell = Callable[..., None]
"""Sends a message to the parent: its type, and its members as keywords."""

ANSWER_SECONDS: Final = 10.0
"""The parent's answer about a link; longer than the ping of a rival takes."""
LOOK_SECONDS: Final = 10.0
SPARE_STREAM_IDS: Final = 2**24
"""With no more left the link to another worker is replaced: far more than there are calls in `LOOK_SECONDS`."""
ON_THEIR_WAY_SECONDS: Final = 5.0
"""How long calls that the other worker sends over a link that was replaced are still taken."""
REPLACED_SECONDS: Final = 7200.0
"""How long calls on such a link have to end."""


class LocalLinks(Protocol):
    """What the others do to this worker's links; the registry."""

    def held(self, node_id: str) -> Listener | None:
        """Return the newest link of a node here."""
        ...

    def superseded_elsewhere(self, node_id: str) -> None:
        """Let go of a node whose newest link another worker has."""
        ...

    async def answers(self, listener: Listener) -> bool:
        """Ping a listener; silent, it is cut."""
        ...


class Siblings:
    """The other workers; what a registry takes for `elsewhere`."""

    def __init__(self, tell: Tell, spawn: Callable[[Coroutine[Any, Any, object]], object], log: Logger) -> None:
        self._tell = tell
        self._spawn = spawn
        self._log = log
        self._local: LocalLinks | None = None
        self._links: dict[int, Link] = {}
        self._numbers = itertools.count(secrets.randbits(63))  # none is that of a link of a worker before this one
        self._questions = itertools.count(1)
        self._answers: dict[int, asyncio.Future[str]] = {}
        self._number_of: dict[Listener, int] = {}
        self._listener_of: dict[int, Listener] = {}
        self._by_node: dict[str, HeldElsewhere] = {}
        self._by_name: dict[tuple[str, str], HeldElsewhere] = {}
        self._links_of: dict[int, dict[str, int]] = {}

    def serve(self, local: LocalLinks) -> None:
        """Begin to pass on what the others do to this worker's links."""
        self._local = local

    # The links between workers.

    def linked(self, worker: int, link: Link) -> None:
        """There is a link to another worker; calls on one before it go on."""
        old = self._links.get(worker)
        if old is not None:
            self._spawn(_let_go(old))
        self._links[worker] = link
        self._tell("linked", other=worker)

    def unlinked(self, link: Link) -> None:
        """The link is lost, and every node behind it; the parent makes another if the worker lives."""
        for worker in [worker for worker, held in self._links.items() if held is link]:
            del self._links[worker]
            self._forget_nodes(worker)
            self._tell("unlinked", other=worker)

    async def keep_linked(self) -> None:
        """Have links replaced, for ever, before their stream ids are used up, which takes weeks of calls."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for worker, link in self._links.items():
                if link.stream_ids_left < SPARE_STREAM_IDS:
                    self._tell("worn", other=worker)

    @property
    def links(self) -> dict[int, Link]:
        """The links to the others."""
        return self._links

    def listener(self, number: int) -> Listener | None:
        """Return this worker's listener of a number."""
        return self._listener_of.get(number)

    # What the parent says: one method for each type of message.

    def on_opened(
        self,
        *,
        worker: int,
        number: int,
        node_id: str,
        workspace_id: str,
        workspace: str,
        node: str,
        spiffe_id: str,
        instance: str,
        sequence: int,
    ) -> None:
        """Another worker has a node's newest link."""
        link = self._links.get(worker)
        held = self._local.held(node_id) if self._local is not None else None
        if held is not None and held.instance == instance and held.sequence > sequence:
            return  # the parent has not heard of the newer one yet
        self._forget(node_id)
        if held is not None and self._local is not None:
            self._local.superseded_elsewhere(node_id)
        if link is None or link.lost:
            return
        reached = HeldElsewhere(
            link,
            number,
            worker,
            node_id=node_id,
            workspace_id=workspace_id,
            node=node,
            workspace=workspace,
            spiffe_id=spiffe_id,
        )
        reached.current = True
        self._by_node[node_id] = self._by_name[workspace, node] = reached

    def on_closed(self, node_id: str, worker: int, number: int) -> None:
        """Another worker's link takes no calls any more."""
        reached = self._by_node.get(node_id)
        if reached is not None and (reached.worker, reached.number) == (worker, number):
            self._forget(node_id)

    def on_gone(self, worker: int) -> None:
        """Another worker has ended."""
        self._forget_nodes(worker)
        self._links_of.pop(worker, None)
        link = self._links.pop(worker, None)
        if link is not None:
            link.abort()

    def on_outdone(self, number: int) -> None:
        """A link of this worker was attached, and then another one found to be the node's."""
        listener = self._listener_of.get(number)
        if listener is not None and self._local is not None and self._local.held(listener.node_id) is listener:
            self._local.superseded_elsewhere(listener.node_id)

    def on_challenge(self, number: int, question: int) -> None:
        """Another process has dialled for a node of this worker: ask its link whether it is alive."""
        self._spawn(self._challenge(number, question))

    def on_judged(self, question: int, verdict: str) -> None:
        """The parent has judged a link."""
        waiting = self._answers.get(question)
        if waiting is not None and not waiting.done():
            waiting.set_result(verdict)

    def on_links(self, worker: int, links: dict[str, int]) -> None:
        """Another worker has so many links of these workspaces now."""
        self._links_of.setdefault(worker, {}).update(links)

    # What the registry asks and tells.

    def find(self, workspace: str, node: str) -> Reached | None:
        """Return the node of this name, if another worker has its link."""
        return self._by_name.get((workspace, node))

    def holds(self, node_id: str) -> bool:
        """Whether another worker has a link of this node."""
        return node_id in self._by_node

    def links_of(self, workspace_id: str) -> int:
        """How many links of a workspace the others have."""
        return sum(links.get(workspace_id, 0) for links in self._links_of.values())

    async def contest(self, grant: ListenerGrant, instance: str, sequence: int) -> Verdict | None:
        """Ask the parent to judge a new link; without an answer it is not attached."""
        question = next(self._questions)
        waiting = self._answers[question] = asyncio.get_running_loop().create_future()
        self._tell("contest", question=question, node_id=grant.node_id, instance=instance, sequence=sequence)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return Verdict[await waiting]
        except TimeoutError:
            self._log.error("workers.no_answer", node_id=grant.node_id)
            return None
        finally:
            del self._answers[question]

    def attached(self, listener: Listener) -> None:
        """Tell that this worker has the node's newest link."""
        number = next(self._numbers)
        self._number_of[listener] = number
        self._listener_of[number] = listener
        self._forget(listener.node_id)
        self._tell(
            "opened",
            number=number,
            node_id=listener.node_id,
            workspace_id=listener.workspace_id,
            workspace=listener.workspace,
            node=listener.node,
            spiffe_id=listener.spiffe_id,
            instance=listener.instance,
            sequence=listener.sequence,
        )

    def retired(self, listener: Listener) -> None:
        """Tell that a link takes no new calls."""
        number = self._number_of.get(listener)
        if number is not None:
            self._tell("retired", number=number, gone=listener.goodbye)

    def detached(self, listener: Listener) -> None:
        """Tell that a link is gone."""
        number = self._number_of.pop(listener, None)
        if number is not None:
            del self._listener_of[number]
            self._tell("closed", number=number)

    def links_changed(self, workspace_id: str, links: int) -> None:
        """Tell how many links of a workspace this worker has."""
        self._tell("links", links={workspace_id: links})

    async def _challenge(self, number: int, question: int) -> None:
        listener = self._listener_of.get(number)
        alive = listener is not None and self._local is not None and await self._local.answers(listener)
        self._tell("challenged", question=question, alive=alive)

    def _forget_nodes(self, worker: int) -> None:
        for node_id in [node_id for node_id, reached in self._by_node.items() if reached.worker == worker]:
            self._forget(node_id)

    def _forget(self, node_id: str) -> None:
        reached = self._by_node.pop(node_id, None)
        if reached is None:
            return
        reached.current = False
        name = reached.workspace, reached.node
        if self._by_name.get(name) is reached:
            del self._by_name[name]


async def _let_go(link: Link) -> None:
    await asyncio.sleep(ON_THEIR_WAY_SECONDS)
    await link.drain(REPLACED_SECONDS)
