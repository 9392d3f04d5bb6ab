"""How the relay is put together: every object once, in the order of what needs what, and nothing wired afterwards."""

import asyncio
import random
import secrets
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from certs.identities import Identity
from certs.trust import TrustStore
from relay.admission import Admission
from relay.background import Background
from relay.capacity import credit_budget, memory_limit
from relay.control_plane_client import ControlPlaneClient
from relay.control_plane_trust import ControlPlaneTrust
from relay.deadlines import Deadlines
from relay.destinations import NodeNames
from relay.disk_watch import DiskWatch
from relay.front_door import FrontDoor
from relay.handshake_pace import HandshakePace
from relay.held_watch import HeldWatch
from relay.identity import OwnIdentity
from relay.link_admission import LinkAdmission
from relay.link_door import LinkDoor
from relay.link_stalls import LinkStalls
from relay.memory import resident_bytes
from relay.memory_watch import MemoryWatch
from relay.metrics import RelayMetrics
from relay.nodes_return import NodesReturn
from relay.quota_keeper import QuotaKeeper
from relay.quotas import Quotas
from relay.registry import Registry
from relay.report_sender import ReportSender
from relay.reports import Reports
from relay.rotation_watch import RotationWatch
from relay.sender_port import SenderPort
from relay.serving_tls import ServingTls
from relay.settings import RelaySettings
from relay.trust_adoption import TrustAdoption
from relay.trust_age import TrustAge
from relay.trust_in_force import TrustInForce
from relay.uses import Uses
from trunkline.channel.flushing import Flusher
from trunkline.channel.limits import CreditBudget
from trunkline.client.clock_offset import ClockOffset
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.lifecycle import Lifecycle
from trunkline.runtime.logs import get_logger


@dataclass(frozen=True, slots=True)
class Foundation:
    """What there is before the relay can be put together: who it is, whom it trusts, where it counts."""

    settings: RelaySettings
    identity: OwnIdentity
    store: TrustStore
    trust: ControlPlaneTrust
    client: ControlPlaneClient
    clock_offset: ClockOffset
    serving: ServingTls
    metrics_registry: CollectorRegistry
    metrics: RelayMetrics
    clock: Clock
    rng: random.Random

    def connect(self, identity: Identity | None) -> ControlPlaneClient:
        """Return a client of the control plane with connections of its own, which presents this identity, or none."""
        url = self.settings.control_plane.url
        return ControlPlaneClient(url, self.trust.tls(identity), self.clock_offset)


@dataclass(frozen=True, slots=True)
class Relay:
    """The parts of a running relay that its main coroutine drives."""

    registry: Registry
    deadlines: Deadlines
    port: SenderPort
    trust: TrustInForce
    adoption: TrustAdoption
    trust_age: TrustAge
    rotation: RotationWatch
    nodes: NodesReturn
    quotas: QuotaKeeper
    memory: MemoryWatch
    held: HeldWatch
    stalls: LinkStalls
    disk: DiskWatch
    sender: ReportSender


def compose(foundation: Foundation, background: Background, lifecycle: Lifecycle) -> Relay:
    """Put a relay together."""
    settings, clock, metrics = foundation.settings, foundation.clock, foundation.metrics
    trust = TrustInForce(foundation.store, clock, cache_entries=settings.limits.token_cache_entries)
    reports = Reports(settings=settings.reports, metrics=metrics, clock=clock)
    links = LinkAdmission(trust, clock)
    nodes = NodesReturn(
        settings.state_directory,
        lifecycle.condition("nodes"),
        get_logger("relay"),
        per_second=HandshakePace(settings.limits.handshakes_per_second).sustained_per_second,
    )
    registry = Registry(
        limits=settings.limits,
        metrics=metrics,
        uses=Uses(),
        renew=links.renew,
        spawn=background.spawn,
        report=reports.add,
        counted=nodes.counted,
        log=get_logger("relay.registry"),
    )
    quotas = Quotas()
    keeper = QuotaKeeper(settings.state_directory, quotas, trust.renew, get_logger("relay.quotas"))
    admission = Admission(
        registry=registry,
        links=links,
        trust=trust,
        quotas=quotas,
        assertions=foundation.identity,
        reports=reports,
        metrics=metrics,
        clock=clock,
        cache_entries=settings.limits.token_cache_entries,
    )
    if foundation.store.text is not None:
        registry.push_trust(foundation.store.text)
    deadlines = Deadlines(asyncio.get_running_loop(), clock.now)
    rotation = RotationWatch(
        identity=foundation.identity, store=foundation.store, rng=foundation.rng, log=get_logger("relay.identity")
    )
    adoption = TrustAdoption(
        store=foundation.store,
        trust=trust,
        registry=registry,
        roots_changed=foundation.serving.roots_changed,
        own_root=lambda: rotation.root_id,
        metrics=metrics,
        report=reports.add,
        clock=clock,
        log=get_logger("relay.trust"),
    )
    sender = ReportSender(
        client=foundation.client,
        reports=reports,
        reporter=f"{foundation.identity.relay_id}.{secrets.token_hex(6)}",
        interval_seconds=settings.reports.interval_seconds,
        clock=clock,
        backoff=Backoff(foundation.rng),
        log=get_logger("relay.reports"),
    )
    budget = credit_budget(settings.limits)
    port = _data_path(foundation, registry, admission, deadlines, background, budget, nodes)
    held = HeldWatch(
        lambda: registry.links,
        budget,
        link_held_bytes=min(settings.limits.link_held_bytes, budget.held_limit_bytes // 2),
        stall_seconds=settings.limits.write_stall_seconds,
        metrics=metrics,
    )
    stalls = LinkStalls(lambda: registry.links, port.front.deadline_passed)
    trust_age = TrustAge(
        settings=settings.trust,
        trust=trust,
        fresh=lifecycle.condition("trust_fresh"),
        metrics=metrics,
        clock=clock,
        log=get_logger("relay.trust"),
    )

    def shed(shedding: bool) -> None:
        port.front.shedding = registry.shedding = shedding

    memory = MemoryWatch(
        memory_limit(settings.limits),
        resident_bytes=resident_bytes,
        shed=shed,
        metrics=metrics,
        log=get_logger("relay.memory"),
    )
    disk = DiskWatch(
        {"the trust document": foundation.store.keep, "quotas": keeper.keep}, metrics, get_logger("relay.disk")
    )
    loop = asyncio.get_running_loop()
    metrics.tasks.set_function(lambda: len(asyncio.all_tasks(loop)))
    metrics.streams.set_function(lambda: sum(link.streams for link in registry.links))
    lifecycle.remark("disk", disk.remark)
    lifecycle.remark("memory", memory.remark)
    lifecycle.remark("trust_document", trust_age.remark)
    return Relay(
        registry,
        deadlines,
        port,
        trust,
        adoption,
        trust_age,
        rotation,
        nodes,
        keeper,
        memory,
        held,
        stalls,
        disk,
        sender,
    )


def _data_path(
    foundation: Foundation,
    registry: Registry,
    admission: Admission,
    deadlines: Deadlines,
    background: Background,
    budget: CreditBudget,
    nodes: NodesReturn,
) -> SenderPort:
    loop, limits = asyncio.get_running_loop(), foundation.settings.limits
    front = FrontDoor(
        loop=loop,
        admission=admission,
        uses=registry.uses,
        names=NodeNames(foundation.settings.names.suffix),
        limits=limits,
        metrics=foundation.metrics,
        deadlines=deadlines,
        id_prefix=secrets.token_hex(6),
        log=get_logger("relay.calls"),
    )
    door = LinkDoor(
        loop=loop,
        front=front,
        admission=admission,
        registry=registry,
        spawn=background.spawn,
        budget=budget,
        flusher=Flusher(loop),
        return_within_seconds=lambda: nodes.return_within_seconds,
    )
    return SenderPort(front, door, foundation.metrics)
