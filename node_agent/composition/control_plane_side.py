"""Puts together what speaks with the control plane of its own accord, while the node serves."""

import secrets

from node_agent.composition.foundation import Foundation
from node_agent.identity.credentials import Credentials
from node_agent.identity.renewal import Renewal
from node_agent.identity.trust_hand_over import TrustHandOver
from node_agent.identity.trust_watch import TrustWatch
from node_agent.links.relay_links import RelayLinks
from node_agent.report_sender import ReportSender
from node_agent.reports import Reports
from node_agent.secrets.keeper import SecretKeeper
from trunkline.runtime.logs import get_logger


def compose_report_sender(foundation: Foundation, credentials: Credentials, reports: Reports) -> ReportSender:
    """Build what takes reports to the control plane."""
    return ReportSender(
        control_plane=foundation.enrolment.control_plane,
        credentials=credentials,
        reports=reports,
        reporter=secrets.token_hex(6),
        settings=foundation.settings.reports,
        clock=foundation.clock,
        rng=foundation.rng,
        log=get_logger("node_agent.reports"),
    )


def compose_hand_over(foundation: Foundation, credentials: Credentials) -> TrustHandOver:
    """Build what gives a control plane that has lost trust documents the one that this node holds."""
    enrolment, log = foundation.enrolment, get_logger("node_agent.trust")
    return TrustHandOver(enrolment.control_plane, credentials, enrolment.trust, foundation.rng, log)


def compose_secret_keeper(foundation: Foundation, credentials: Credentials, renewal: Renewal) -> SecretKeeper:
    """Build what fetches the secrets that this node is granted."""
    return SecretKeeper(
        control_plane=foundation.enrolment.control_plane,
        credentials=credentials,
        held=foundation.secrets.held,
        uses=foundation.secrets.uses,
        policy=foundation.policy,
        directory=foundation.settings.state_directory,
        renew_certificate=renewal.ask_for_certificate,
        metrics=foundation.metrics,
        clock=foundation.clock,
        rng=foundation.rng,
        log=get_logger("node_agent.secrets"),
    )


def compose_trust_watch(foundation: Foundation, links: RelayLinks) -> TrustWatch:
    """Build what fetches a trust document that no relay has brought."""
    watch = TrustWatch(
        control_plane=foundation.enrolment.control_plane,
        trust=foundation.enrolment.trust,
        linked_relays=links.linked,
        metrics=foundation.metrics,
        clock=foundation.clock,
        rng=foundation.rng,
        log=get_logger("node_agent.trust"),
    )
    foundation.metrics.trust_age.set_function(lambda: watch.age_seconds)
    return watch
