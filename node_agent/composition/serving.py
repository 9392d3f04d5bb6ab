"""What runs once the node knows who it is, and how that is put together."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from node_agent.composition.control_plane_side import (
    compose_hand_over,
    compose_report_sender,
    compose_secret_keeper,
    compose_trust_watch,
)
from node_agent.composition.exchanges import compose_router
from node_agent.composition.following import follow_identity, follow_relays, follow_trust
from node_agent.composition.foundation import Foundation
from node_agent.composition.identity import compose_renewal, compose_rotation_watch
from node_agent.composition.links import compose_links
from node_agent.composition.work import compose_work
from node_agent.exchanges.watch import CallerWatch
from node_agent.identity.credentials import Credentials
from node_agent.identity.node_identity import NodeIdentity
from node_agent.identity.renewal import Renewal
from node_agent.identity.trust_hand_over import TrustHandOver
from node_agent.identity.trust_watch import TrustWatch
from node_agent.init_scripts.initialisation import Initialisation
from node_agent.links.network_watch import NetworkWatch
from node_agent.links.relay_links import RelayLinks
from node_agent.report_sender import ReportSender
from node_agent.reports import Reports
from node_agent.secrets.keeper import SecretKeeper
from node_agent.shells.shells import Shells
from trunkline.runtime.lifecycle import Condition
from trunkline.runtime.logs import get_logger


@dataclass(frozen=True, slots=True)
class Serving:
    """What runs once the node knows who it is."""

    links: RelayLinks
    renewal: Renewal
    credentials: Credentials
    secrets: SecretKeeper
    report_sender: ReportSender
    hand_over: TrustHandOver
    trust_watch: TrustWatch
    shells: Shells
    initialisation: Initialisation


async def compose(
    foundation: Foundation, node: NodeIdentity, ready: Condition, own_ports: frozenset[int], stack: AsyncExitStack
) -> Serving:
    """Build what serves this node; `stack` closes it. Nothing is dialled yet.

    Raises:
        StateDirectoryError: the record of the node's initialisation cannot be read.
    """
    credentials = Credentials(node, foundation.enrolment.store)
    watch = CallerWatch()
    reports = Reports(foundation.metrics, foundation.clock)

    async def prove(heir: NodeIdentity) -> bool:
        return await links.prove(heir)

    renewal = compose_renewal(foundation, credentials, prove)
    rotation = compose_rotation_watch(foundation, credentials, renewal)
    stack.callback(rotation.close)
    work = compose_work(foundation, credentials, watch, reports, stack)
    router = await compose_router(foundation, node, work, rotation, watch, reports, own_ports, stack)
    links = compose_links(foundation, credentials, router, ready, renewal)
    follow_trust(foundation, watch, links, reports)
    follow_relays(foundation, credentials, links)
    follow_identity(foundation, credentials)
    credentials.subscribe(links.identity_changed)
    foundation.metrics.open_exchanges.set_function(lambda: float(len(watch)))
    stack.push_async_callback(links.close)
    network = NetworkWatch(links.network_changed, get_logger("node_agent.links"))
    stack.callback(network.close)
    network.start()
    rotation.look()
    return Serving(
        links=links,
        renewal=renewal,
        credentials=credentials,
        secrets=compose_secret_keeper(foundation, credentials, renewal),
        report_sender=compose_report_sender(foundation, credentials, reports),
        hand_over=compose_hand_over(foundation, credentials),
        trust_watch=compose_trust_watch(foundation, links),
        shells=work.shells,
        initialisation=work.initialisation,
    )
