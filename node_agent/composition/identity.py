"""Puts together what keeps the node's identity valid."""

from node_agent.composition.foundation import Foundation
from node_agent.identity.credentials import Credentials
from node_agent.identity.renewal import Renewal
from node_agent.identity.rotation_watch import RotationWatch
from node_agent.identity.succession import Prove
from trunkline.runtime.logs import get_logger


def compose_renewal(foundation: Foundation, credentials: Credentials, prove: Prove) -> Renewal:
    """Build what renews certificate and listen token; `prove` makes a link with a successor."""
    enrolment = foundation.enrolment
    return Renewal(
        control_plane=enrolment.control_plane,
        credentials=credentials,
        trust=enrolment.trust,
        succession=enrolment.succession,
        returning=enrolment.returning,
        prove=prove,
        metrics=foundation.metrics,
        clock=foundation.clock,
        rng=foundation.rng,
        log=get_logger("node_agent.identity"),
    )


def compose_rotation_watch(foundation: Foundation, credentials: Credentials, renewal: Renewal) -> RotationWatch:
    """Build what has both renewed where a rotation asks for it."""
    return RotationWatch(
        credentials=credentials,
        trust=foundation.enrolment.trust,
        renew_certificate=renewal.ask_for_certificate,
        renew_token=renewal.ask_for_token,
        rng=foundation.rng,
        log=get_logger("node_agent.identity"),
    )
