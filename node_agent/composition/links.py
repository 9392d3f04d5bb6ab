"""Puts together what dials the relays, and keeps a link to each."""

from certs.identities import Identity
from certs.tls import TlsContext, client_context
from node_agent.composition.foundation import Foundation
from node_agent.exchanges.router import ExchangeRouter
from node_agent.identity.credentials import Credentials
from node_agent.identity.renewal import Renewal
from node_agent.links.dialer import Dialer, DialOptions
from node_agent.links.relay_links import RelayLinks
from trunkline.runtime.lifecycle import Condition
from trunkline.runtime.logs import get_logger


def compose_links(
    foundation: Foundation, credentials: Credentials, router: ExchangeRouter, ready: Condition, renewal: Renewal
) -> RelayLinks:
    """Build the links to the relays; nothing is dialled yet."""
    settings, trust = foundation.settings.links, foundation.enrolment.trust

    def relay_tls(identity: Identity) -> TlsContext:
        roots = trust.store.keyring.roots if settings.server_roots == "trust_document" else None
        return client_context(roots, identity=identity)

    dialer = Dialer(
        credentials,
        relay_tls,
        foundation.proxy_for,
        client_context,
        DialOptions(settings.carrier, settings.dial_seconds, settings.keepalive_seconds, settings.max_streams),
        trust.certificate_verdict,
    )
    return RelayLinks(
        dialer=dialer,
        offer=router.offered,
        take_trust=trust.offer,
        ask_for_token=renewal.ask_for_token,
        urgent=lambda: foundation.ledger.counts()[0] > 0,
        settings=settings,
        ready=ready,
        metrics=foundation.metrics,
        clock=foundation.clock,
        rng=foundation.rng,
        log=get_logger("node_agent.links"),
    )
