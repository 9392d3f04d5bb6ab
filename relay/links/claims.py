"""Claims: whether a link that is asked for may speak for its node, decided before its 101 is written.

A claim is judged by the rules of supersession, here and at the other workers of the relay. It may wait for a ping to an
older link of another process, of which there is one at a time for each node. What is decided holds for the turn of the
event loop in which the claim returns: the link is to be attached in it.
"""

from relay.links.elsewhere import NOWHERE, Elsewhere
from relay.links.link_events import LinkEvents, Report
from relay.links.listeners import Listener
from relay.links.registry import Registry
from relay.links.supersede import Verdict, judge
from relay.metrics import RelayMetrics
from relay.settings import LimitsSettings
from relay.trust.credentials import ListenerGrant, Refusal
from trunkline.channel.outcomes import Outcome
from trunkline.runtime.logs import Logger


class Claims:
    """Decides which links of listeners may be attached."""

    def __init__(
        self,
        registry: Registry,
        *,
        limits: LimitsSettings,
        metrics: RelayMetrics,
        report: Report,
        log: Logger,
        elsewhere: Elsewhere = NOWHERE,
    ) -> None:
        """Begin without claims; `registry` holds the links that there are, and owns the listeners that are made."""
        self._registry = registry
        self._limits = limits
        self._metrics = metrics
        self._events = LinkEvents(report, log)
        self._elsewhere = elsewhere
        self._challenged: set[str] = set()

    async def claim(self, grant: ListenerGrant, instance: str, sequence: int) -> Listener | Refusal:
        """Decide whether a new link may speak for its node.

        Args:
            grant: what admission granted.
            instance: the agent process's UUID.
            sequence: the number that this process gave the link.

        Returns:
            The listener to make the link's owner, and to attach in the same turn; or the refusal to answer.
        """
        registry = self._registry
        replaces = registry.held(grant.node_id) is not None or self._elsewhere.holds(grant.node_id)
        refusal = registry.refuse_link(None) or await self._contest(grant, instance, sequence)
        if refusal is None:
            refusal = registry.make_room_for_listener(grant.workspace_id, replaces=replaces)
        if refusal is not None:
            self._metrics.link_refusals.of(refusal.outcome.metric_label).count += 1
            self._events.refused(grant, refusal.outcome.metric_label)
            return refusal
        return Listener(grant, instance, sequence, owner=registry, limits=self._limits)

    async def _contest(self, grant: ListenerGrant, instance: str, sequence: int) -> Refusal | None:
        verdict = self._judge(grant.node_id, instance, sequence)
        if verdict is Verdict.CHALLENGE and grant.node_id in self._challenged:
            return Refusal(Outcome.OVER_QUOTA, "another link of this node is being decided on; try again")
        if verdict is Verdict.CHALLENGE:
            verdict = await self._challenge(grant.node_id, instance, sequence)
        decided: Verdict | None = verdict
        if verdict in (Verdict.ADMIT, Verdict.SUPERSEDE):
            decided = await self._elsewhere.contest(grant, instance, sequence)
        match decided:
            case None:
                return Refusal(Outcome.OVERLOADED, "the relay cannot decide on the link now; try again")
            case Verdict.ADMIT | Verdict.SUPERSEDE:
                return None
            case Verdict.STALE:
                return Refusal(Outcome.SUPERSEDED, "this agent process already has a newer link here")
            case Verdict.CHALLENGE:
                self._raise_clone_alarm(grant, instance)
                return Refusal(Outcome.CLONE, "another process holds this node's identity and is alive")

    def _judge(self, node_id: str, instance: str, sequence: int) -> Verdict:
        old = self._registry.held(node_id)
        return judge(old.incumbent() if old is not None else None, instance, sequence)

    async def _challenge(self, node_id: str, instance: str, sequence: int) -> Verdict:
        """Ping the old link; silent, it is cut, and the new one judged again."""
        self._challenged.add(node_id)
        try:
            if (old := self._registry.held(node_id)) is not None:
                await self._registry.answers(old)
            return self._judge(node_id, instance, sequence)
        finally:
            self._challenged.discard(node_id)

    def _raise_clone_alarm(self, grant: ListenerGrant, instance: str) -> None:
        self._metrics.clone_alarms.of().count += 1
        self._events.cloned(grant, instance)
