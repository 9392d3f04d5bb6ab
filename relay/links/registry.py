"""The links of this relay: which listener speaks for which node, and how many links each workspace has.

A listener's link is attached in two steps: `Claims` decide about it, and `attach` follows in the same turn of the event
loop, when the answer 101 has been written. Whatever stands on a credential is entered in `uses`, so that a revocation
finds it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from relay.links.elsewhere import NOWHERE, Elsewhere
from relay.links.link_events import LinkEvents, Report
from relay.links.listeners import Listener
from relay.links.reached import Reached
from relay.links.superseded import Superseded
from relay.links.trust_pushes import TrustPushes
from relay.metrics import RelayMetrics
from relay.settings import LimitsSettings
from relay.trust.credentials import Refusal, SenderGrant
from relay.trust.uses import Cuttable, Uses
from trunkline.channel.errors import ChannelError
from trunkline.channel.link import Link
from trunkline.channel.outcomes import Outcome
from trunkline.runtime.logs import Logger

LISTENER = "listener"
SENDER = "sender"
CLOSED = "closed"
NEVER = float("inf")
ON_THEIR_WAY_SECONDS = 0.5
"""For how long a link that was superseded at another worker takes calls that were sent to it before that was known."""

Spawn = Callable[[Coroutine[Any, Any, object]], object]
"""Starts a task that belongs to the daemon's task group."""

Renew = Callable[[Listener, str], Refusal | None]
"""Takes a renewed listen token for a listener; admission decides."""


class SenderLink(Cuttable, Protocol):
    """A sender's link, as the registry sees it."""

    link: Link


class Registry:
    """Listeners by node, and the count of all links."""

    def __init__(
        self,
        *,
        limits: LimitsSettings,
        metrics: RelayMetrics,
        uses: Uses,
        renew: Renew,
        spawn: Spawn,
        report: Report,
        counted: Callable[[int], None],
        log: Logger,
        elsewhere: Elsewhere = NOWHERE,
    ) -> None:
        """Begin without links; `counted` hears how many nodes have one, each time that changes."""
        self.uses = uses
        self.draining = False
        self.shedding = False
        self._limits = limits
        self._metrics = metrics
        self._spawn = spawn
        self._counted = counted
        self._log = log
        self._events = LinkEvents(report, log)
        self._elsewhere = elsewhere
        self._renew = renew
        self._by_name: dict[tuple[str, str], Listener] = {}
        self._by_node: dict[str, Listener] = {}
        self._listeners: set[Listener] = set()
        self._superseded = Superseded()
        self._senders: dict[SenderLink, str | None] = {}
        self._links_of: Counter[str] = Counter()
        self._pushes = TrustPushes(self.notice_ended)
        self._next_expiry = NEVER

    # The data path.

    def find(self, workspace: str, node: str) -> Reached | None:
        """Return what new calls for this name go to: the listener, or who has it elsewhere."""
        listener = self._by_name.get((workspace, node))
        return listener if listener is not None else self._elsewhere.find(workspace, node)

    @property
    def listeners(self) -> frozenset[Listener]:
        """Every listener link, those that only finish their calls included."""
        return frozenset(self._listeners)

    @property
    def links(self) -> list[Link]:
        """Every link, of listeners and of senders."""
        return [listener.link for listener in self._listeners] + [sender.link for sender in self._senders]

    @property
    def sender_links(self) -> int:
        """How many links of senders there are."""
        return len(self._senders)

    # Links that come.

    def refuse_link(self, workspace_id: str | None, *, replaces: bool = False, spared: bool = False) -> Refusal | None:
        """Return why no link of this workspace is taken now, or None.

        One that `replaces` another adds nothing; one that is `spared` is taken however short of memory the relay is.
        """
        if self.draining:
            return Refusal(Outcome.DRAINING, "the relay is draining; use another one")
        if self.shedding and not spared:
            return Refusal(Outcome.OVERLOADED, "the relay is short of memory; use another one, or try again")
        if workspace_id is not None and not replaces:
            links = self._links_of[workspace_id] + self._elsewhere.links_of(workspace_id)
            if links >= self._limits.max_links_per_workspace:
                return Refusal(Outcome.OVER_QUOTA, "the workspace has as many links as this relay allows")
        return None

    def make_room_for_listener(self, workspace_id: str, *, replaces: bool) -> Refusal | None:
        """Return why no listener's link of this workspace is taken now, or None.

        Where the workspace has as many links as it may, the newest of a sender is ended for it: else whoever has a
        token of one node could keep all others of its workspace out.
        """
        refusal = self.refuse_link(workspace_id, replaces=replaces)
        if refusal is None or refusal.outcome is not Outcome.OVER_QUOTA:
            return refusal
        newest = next((one for one, of in reversed(self._senders.items()) if of == workspace_id), None)
        if newest is None:
            return refusal
        self._log.info("link.made_room", workspace_id=workspace_id, limit=self._limits.max_links_per_workspace)
        newest.link.abort()
        self.detach_sender(newest)
        return None

    # Listeners.

    def attach(self, listener: Listener, link: Link) -> None:
        """Let a claimed listener take its node's calls, and supersede the link that did until now."""
        listener.take(link)
        old = self._by_node.get(listener.node_id)
        if old is not None:
            self._supersede(old)
        listener.current = True
        self._by_node[listener.node_id] = listener
        self._by_name[listener.workspace, listener.node] = listener
        self._counted(len(self._by_node))
        self._listeners.add(listener)
        self._elsewhere.attached(listener)
        self._count_link(listener.workspace_id, 1)
        self._begin(listener)
        self._metrics.links.of(LISTENER).count += 1
        self._metrics.links_attached.of(LISTENER).count += 1
        self._events.attached(listener, listener.instance, listener.sequence)
        self._pushes.add(listener)

    def detach(self, listener: Listener, error: ChannelError | None = None) -> None:
        """Forget a listener whose link has ended, for that reason; None if it was closed here."""
        if listener not in self._listeners:
            return
        self._count_end(LISTENER, error)
        self._listeners.discard(listener)
        self._superseded.discard(listener)
        self._pushes.discard(listener)
        self._retire(listener)
        if self._by_node.get(listener.node_id) is listener:
            del self._by_node[listener.node_id]
            self._counted(len(self._by_node))
        self._elsewhere.detached(listener)
        self._count_link(listener.workspace_id, -1)
        self.uses.end(listener)
        self._metrics.links.of(LISTENER).count -= 1
        self._events.detached(listener, listener.sequence)

    def said_goodbye(self, listener: Listener) -> None:
        """Send no more calls to a listener that drains; its link lives on until the calls are done."""
        self._retire(listener)
        self._elsewhere.retired(listener)

    def renew(self, listener: Listener, token: str) -> Refusal | None:
        """Take a new listen token for a listener's link, or say why not."""
        refusal = self._renew(listener, token)
        if refusal is None:
            self._begin(listener)
            self._metrics.tokens_renewed.of().count += 1
        return refusal

    def notice_ended(self, kind: str, result: str) -> None:
        """Count what came of a notice."""
        self._metrics.notices.of(kind, result).count += 1

    # Senders.

    def attach_sender(self, sender: SenderLink, grant: SenderGrant) -> Refusal | None:
        """Enter a sender's link, or refuse it; to be called before its 101 is written, with `link` set after."""
        is_control_planes = grant.workspace_id is None
        refusal = self.refuse_link(grant.workspace_id, spared=is_control_planes)
        if refusal is not None:
            self._metrics.link_refusals.of(refusal.outcome.metric_label).count += 1
            return refusal
        self._senders[sender] = grant.workspace_id
        if grant.workspace_id is not None:
            self._count_link(grant.workspace_id, 1)
        self.uses.begin(sender, grant.credential)
        self._metrics.links.of(SENDER).count += 1
        self._metrics.links_attached.of(SENDER).count += 1
        return None

    def detach_sender(self, sender: SenderLink, error: ChannelError | None = None) -> None:
        """Forget a sender's link that has ended, for that reason; None if it was closed here."""
        if sender not in self._senders:
            return
        self._count_end(SENDER, error)
        workspace_id = self._senders.pop(sender)
        if workspace_id is not None:
            self._count_link(workspace_id, -1)
        self.uses.end(sender)
        self._metrics.links.of(SENDER).count -= 1

    # What claims and other workers ask for.

    async def answers(self, listener: Listener) -> bool:
        """Ping a listener whose node has dialled from another process; silent, it is cut."""
        if await _answers(listener.link, self._limits.ping_seconds):
            return True
        self._log.warning("link.silent", node_id=listener.node_id, node=listener.node)
        self._retire(listener)
        listener.link.abort()
        listener.goodbye = True
        return False

    def superseded_elsewhere(self, node_id: str) -> None:
        """Let go of a node whose newest link another worker has; calls that are on their way here are still taken."""
        old = self._by_node.pop(node_id, None)
        if old is not None:
            self._counted(len(self._by_node))
            self._supersede(old, within_seconds=ON_THEIR_WAY_SECONDS)

    def held(self, node_id: str) -> Listener | None:
        """Return the newest link of a node here, or None."""
        return self._by_node.get(node_id)

    # Trust, tokens, drain.

    def push_trust(self, document: str) -> None:
        """Send a trust document (JWS) down every listener's link, and to those that attach from now on."""
        self._pushes.publish(document, self._listeners)

    def drain_expired(self, now: float) -> None:
        """Drain the links whose listen token has ended and was not renewed; `now` in seconds since the epoch."""
        if now < self._next_expiry:
            return
        ends = {one: one.token_expires_at for one in self._listeners if one.current}
        self._next_expiry = min((end for end in ends.values() if end > now), default=NEVER)
        for listener in [one for one, end in ends.items() if end <= now]:
            self._metrics.tokens_expired.of().count += 1
            self._log.warning("link.token_expired", node_id=listener.node_id, node=listener.node)
            self._retire(listener)
            self._elsewhere.retired(listener)
            listener.notify("draining")
            self._spawn(listener.link.drain(self._limits.drain_seconds))

    def announce_drain(self) -> None:
        """Refuse new links, and tell those that are that the relay is going: a notice to listeners, GoAway to senders.

        Listeners get their GoAway with the drain of the link: none of their streams could be opened after it.
        """
        self.draining = True
        for listener in list(self._listeners):
            listener.notify("draining")
        for sender in list(self._senders):
            sender.link.go_away()

    # Inner rules.

    def _begin(self, listener: Listener) -> None:
        """Let a listener stand on its listen token, until that ends."""
        self.uses.begin(listener, listener.credential)
        self._next_expiry = min(self._next_expiry, listener.token_expires_at)

    def _count_end(self, role: str, error: ChannelError | None) -> None:
        self._metrics.links_ended.of(role, CLOSED if error is None else error.code.value).count += 1

    def _count_link(self, workspace_id: str, change: int) -> None:
        self._links_of[workspace_id] += change
        self._elsewhere.links_changed(workspace_id, self._links_of[workspace_id])

    def _supersede(self, old: Listener, within_seconds: float = 0.0) -> None:
        self._retire(old)
        if old.link.lost:
            return
        self._metrics.supersedes.of().count += 1
        self._events.superseded(old, old.sequence)
        surplus = self._superseded.add(old)
        if surplus is not None:
            self._log.warning("link.too_many_superseded", node_id=old.node_id, node=old.node)
            surplus.link.abort()
        old.notify("superseded")
        self._spawn(self._drain_superseded(old.link, within_seconds))

    async def _drain_superseded(self, link: Link, after_seconds: float) -> None:
        if after_seconds:
            await asyncio.sleep(after_seconds)
        await link.drain(self._limits.superseded_seconds)

    def _retire(self, listener: Listener) -> None:
        """Send no new calls there; the node's number stays known until the link is gone."""
        listener.current = False
        name = listener.workspace, listener.node
        if self._by_name.get(name) is listener:
            del self._by_name[name]


async def _answers(link: Link, timeout_seconds: float) -> bool:
    try:
        async with asyncio.timeout(timeout_seconds):
            await link.ping()
    except (TimeoutError, ChannelError):
        return False
    return True
