"""What follows from a newer trust document, and from another identity."""

from pydantic import ValidationError

from node_agent.composition.foundation import Foundation
from node_agent.exchanges.watch import CallerWatch
from node_agent.identity.credentials import Credentials, token_lifespan
from node_agent.identity.node_identity import NodeIdentity
from node_agent.links.relay_links import RelayLinks
from node_agent.policy import Narrowing
from node_agent.reports import Reports
from trunkline.runtime.logs import get_logger


def follow_trust(foundation: Foundation, watch: CallerWatch, links: RelayLinks, reports: Reports) -> None:
    """Cut what a newer trust document revokes or locks, and report it."""
    trust, metrics, log = foundation.enrolment.trust, foundation.metrics, get_logger("node_agent.trust")

    def tell() -> None:
        metrics.trust_sequence.set(trust.sequence)
        ends = [root.not_valid_after_utc.timestamp() for root in trust.store.keyring.roots]
        metrics.trust_root_expiry.set(min(ends, default=0.0))

    def changed() -> None:
        tell()
        cut, cut_links = watch.cut(trust.verdict), links.cut_ended()
        reports.adopted(trust.sequence, cut, cut_links)
        if cut:
            metrics.cut_exchanges.inc(len(cut))
            log.warning("trust.exchanges_cut", count=len(cut), sequence=trust.sequence)

    tell()
    reports.adopted(trust.sequence)
    trust.subscribe(changed)


def follow_relays(foundation: Foundation, credentials: Credentials, links: RelayLinks) -> None:
    """Keep links to the relays that a newer trust document names, and to no others."""
    trust = foundation.enrolment.trust
    trust.subscribe(lambda: links.relays_changed(trust.relays_or(credentials.current.relays)))


def follow_identity(foundation: Foundation, credentials: Credentials) -> None:
    """Keep the gauges, and the control plane's part of the policy, with the identity in force."""
    metrics, policy, clock = foundation.metrics, foundation.policy, foundation.clock
    log = get_logger("node_agent.policy")

    def changed(before: NodeIdentity | None, node: NodeIdentity) -> None:
        metrics.certificate_expiry.set(node.identity.not_after)
        metrics.token_expiry.set(token_lifespan(node.listen_token, clock.now()).end)
        try:
            policy.narrow(Narrowing.model_validate(node.policy))
        except ValidationError:
            log.error(
                "policy.addition_refused", consequence="commands are off until the control plane mends its policy"
            )
            policy.narrow(Narrowing(commands_enabled=False, ports=[]))

    changed(None, credentials.current)
    credentials.subscribe(changed)
