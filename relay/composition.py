"""How the relay is put together: every object once, in the order of what needs what, and nothing wired afterwards.

`compose_serving` puts together what serves senders and nodes, which a worker has as well; `compose` adds what speaks
with the control plane.
"""

import asyncio
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from certs.identities import Identity
from certs.trust import TrustStore
from relay.admission.links import LinkAdmission
from relay.admission.pacing import Pacing
from relay.admission.quota_keeper import QuotaKeeper
from relay.admission.quotas import Quotas
from relay.admission.streams import Admission
from relay.background import Background
from relay.bounds.capacity import credit_budget, memory_limit
from relay.bounds.deadlines import Deadlines
from relay.bounds.disk_watch import DiskWatch
from relay.bounds.held_watch import HeldWatch
from relay.bounds.link_stalls import LinkStalls
from relay.bounds.memory import resident_bytes
from relay.bounds.memory_watch import MemoryWatch
from relay.control_plane.client import ControlPlaneClient
from relay.control_plane.in_service import InService
from relay.control_plane.report_sender import ReportSender
from relay.control_plane.reports import Reports
from relay.control_plane.server_trust import ControlPlaneTrust
from relay.control_plane.trust_adoption import TrustAdoption
from relay.doors.destinations import NodeNames
from relay.doors.front_door import FrontDoor
from relay.identity.own_identity import OwnIdentity
from relay.identity.rotation_watch import RotationWatch
from relay.identity.serving_tls import ServingTls
from relay.links.claims import Claims
from relay.links.elsewhere import NOWHERE, Elsewhere
from relay.links.nodes_return import NodesReturn
from relay.links.registry import Registry
from relay.metrics import RelayMetrics
from relay.port.handshake_pace import HandshakePace
from relay.senders.link_door import LinkDoor
from relay.senders.sender_port import SenderPort
from relay.settings import RelaySettings
from relay.trust.age import TrustAge
from relay.trust.in_force import TrustInForce
from relay.trust.uses import Uses
from trunkline.channel.alarms import Alarms
from trunkline.channel.flushing import Flusher
from trunkline.channel.limits import CreditBudget
from trunkline.client.clock_offset import ClockOffset
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.lifecycle import Lifecycle
from trunkline.runtime.logs import get_logger


@dataclass(frozen=True, slots=True)
class Footing:
    """What there is before anything can be served: who the relay is, what it trusts, where it counts."""

    settings: RelaySettings
    identity: OwnIdentity
    store: TrustStore
    serving: ServingTls
    metrics: RelayMetrics
    clock: Clock


@dataclass(frozen=True, slots=True)
class Foundation(Footing):
    """What there is before the relay can be put together: besides the footing, its control plane."""

    trust: ControlPlaneTrust
    client: ControlPlaneClient
    clock_offset: ClockOffset
    metrics_registry: CollectorRegistry
    rng: random.Random

    def connect(self, identity: Identity | None) -> ControlPlaneClient:
        """Return a client of the control plane with connections of its own, which presents this identity, or none."""
        url = self.settings.control_plane.url
        return ControlPlaneClient(
            url,
            self.trust.tls(identity),
            self.clock_offset,
            verdict=lambda serial: self.store.certificate_verdict(serial, self.clock.now()),
        )


@dataclass(frozen=True, slots=True)
class Serving:
    """The parts that serve senders and nodes."""

    registry: Registry
    deadlines: Deadlines
    port: SenderPort
    trust: TrustInForce
    trust_age: TrustAge
    quotas: Quotas
    memory: MemoryWatch
    held: HeldWatch
    stalls: LinkStalls
    budget: CreditBudget
    flusher: Flusher
    alarms: Alarms


@dataclass(frozen=True, slots=True)
class Relay:
    """The parts of a running relay that its main coroutine drives."""

    serving: Serving
    adoption: TrustAdoption
    rotation: RotationWatch
    nodes: NodesReturn
    in_service: InService
    quota_keeper: QuotaKeeper
    disk: DiskWatch
    sender: ReportSender


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What serving needs of the daemon around it."""

    background: Background
    lifecycle: Lifecycle
    reports: Reports
    counted: Callable[[int], None] = lambda nodes: None
    elsewhere: Elsewhere = NOWHERE
    resident_bytes: Callable[[], int] = resident_bytes
    confirmed_at: float | None = None
    return_within_seconds: Callable[[], int] = lambda: 0
    relay_ready: Callable[[], bool] = lambda: True


def compose(foundation: Foundation, background: Background, lifecycle: Lifecycle) -> Relay:
    """Put a relay together."""
    settings = foundation.settings
    reports = Reports(settings=settings.reports, metrics=foundation.metrics, clock=foundation.clock)
    nodes = compose_nodes_return(foundation, lifecycle)
    in_service = InService(lifecycle.condition("in_service"))

    def counted(number: int) -> None:
        nodes.counted(number)
        in_service.counted(number)

    around = Surroundings(
        background,
        lifecycle,
        reports,
        counted=counted,
        return_within_seconds=lambda: nodes.return_within_seconds,
    )
    serving = compose_serving(foundation, around)
    keeper = QuotaKeeper(settings.state_directory, serving.quotas, serving.trust.renew, get_logger("relay.quotas"))
    rotation = compose_rotation_watch(foundation)
    disk = compose_disk_watch(foundation, keeper, lifecycle)
    return Relay(
        serving=serving,
        adoption=_adoption(foundation, serving, rotation, reports, disk),
        rotation=rotation,
        nodes=nodes,
        in_service=in_service,
        quota_keeper=keeper,
        sender=compose_report_sender(foundation, reports),
        disk=disk,
    )


def _adoption(
    foundation: Foundation, serving: Serving, rotation: RotationWatch, reports: Reports, disk: DiskWatch
) -> TrustAdoption:
    return TrustAdoption(
        store=foundation.store,
        trust=serving.trust,
        registry=serving.registry,
        roots_changed=foundation.serving.roots_changed,
        own_root=lambda: rotation.root_id,
        metrics=foundation.metrics,
        report=reports.add,
        clock=foundation.clock,
        log=get_logger("relay.trust"),
        once_kept=disk.once_kept,
    )


def compose_nodes_return(foundation: Foundation, lifecycle: Lifecycle) -> NodesReturn:
    """Put together what waits, after a start, for the nodes that had links here before."""
    settings = foundation.settings
    return NodesReturn(
        settings.state_directory,
        lifecycle.condition("nodes"),
        get_logger("relay"),
        per_second=HandshakePace(settings.limits.handshakes_per_second).sustained_per_second,
    )


def compose_rotation_watch(foundation: Foundation) -> RotationWatch:
    """Put together what has the relay's SVID renewed where a rotation asks for it."""
    return RotationWatch(
        identity=foundation.identity, store=foundation.store, rng=foundation.rng, log=get_logger("relay.identity")
    )


def compose_disk_watch(foundation: Foundation, keeper: QuotaKeeper, lifecycle: Lifecycle) -> DiskWatch:
    """Put together what brings to the disk what is to be kept for a restart."""
    keep = {"the trust document": foundation.store.keep, "quotas": keeper.keep}
    disk = DiskWatch(keep, foundation.metrics, get_logger("relay.disk"))
    foundation.store.store_later(disk.due)
    keeper.store_later(disk.due)
    lifecycle.remark("disk", disk.remark)
    return disk


def compose_report_sender(foundation: Foundation, reports: Reports) -> ReportSender:
    """Put together what takes reports to the control plane."""
    return ReportSender(
        client=foundation.client,
        reports=reports,
        reporter=f"{foundation.identity.relay_id}.{secrets.token_hex(6)}",
        interval_seconds=foundation.settings.reports.interval_seconds,
        clock=foundation.clock,
        backoff=Backoff(foundation.rng),
        log=get_logger("relay.reports"),
    )


def compose_serving(footing: Footing, around: Surroundings, quotas: Quotas | None = None) -> Serving:
    """Put together what serves senders and nodes."""
    settings, clock, metrics = footing.settings, footing.clock, footing.metrics
    trust = TrustInForce(footing.store, clock, cache_entries=settings.limits.token_cache_entries)
    links = LinkAdmission(trust, clock)
    registry = Registry(
        limits=settings.limits,
        metrics=metrics,
        uses=Uses(),
        renew=links.renew,
        spawn=around.background.spawn,
        report=around.reports.add,
        counted=around.counted,
        log=get_logger("relay.registry"),
        elsewhere=around.elsewhere,
    )
    quotas = quotas if quotas is not None else Quotas()
    admission = Admission(
        registry=registry,
        links=links,
        trust=trust,
        quotas=quotas,
        assertions=footing.identity,
        reports=around.reports,
        metrics=metrics,
        clock=clock,
        cache_entries=settings.limits.token_cache_entries,
    )
    if footing.store.text is not None:
        registry.push_trust(footing.store.text)
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop, clock.now)
    budget = credit_budget(settings.limits, settings.workers)
    flusher, alarms = Flusher(loop), Alarms(loop)
    port = _data_path(footing, registry, admission, deadlines, around, budget, flusher, alarms)
    stalls = LinkStalls(lambda: registry.links, port.front.deadline_passed)
    _follow_counts(metrics, registry)
    return Serving(
        registry=registry,
        deadlines=deadlines,
        port=port,
        trust=trust,
        quotas=quotas,
        memory=_memory_watch(footing, registry, port.front, around),
        trust_age=_trust_age(footing, trust, around),
        held=_held_watch(footing, registry, budget),
        stalls=stalls,
        budget=budget,
        flusher=flusher,
        alarms=alarms,
    )


def _trust_age(footing: Footing, trust: TrustInForce, around: Surroundings) -> TrustAge:
    trust_age = TrustAge(
        settings=footing.settings.trust,
        trust=trust,
        fresh=around.lifecycle.condition("trust_fresh"),
        metrics=footing.metrics,
        clock=footing.clock,
        log=get_logger("relay.trust"),
        confirmed_at=around.confirmed_at,
    )
    around.lifecycle.remark("trust_document", trust_age.remark)
    return trust_age


def _memory_watch(footing: Footing, registry: Registry, front: FrontDoor, around: Surroundings) -> MemoryWatch:
    def shed(shedding: bool) -> None:
        front.shedding = registry.shedding = shedding

    memory = MemoryWatch(
        memory_limit(footing.settings.limits),
        resident_bytes=around.resident_bytes,
        shed=shed,
        metrics=footing.metrics,
        log=get_logger("relay.memory"),
    )
    around.lifecycle.remark("memory", memory.remark)
    return memory


def _held_watch(footing: Footing, registry: Registry, budget: CreditBudget) -> HeldWatch:
    limits = footing.settings.limits
    return HeldWatch(
        lambda: registry.links,
        budget,
        link_held_bytes=min(limits.link_held_bytes, budget.held_limit_bytes // 2),
        stall_seconds=limits.write_stall_seconds,
        metrics=footing.metrics,
    )


def _follow_counts(metrics: RelayMetrics, registry: Registry) -> None:
    loop = asyncio.get_running_loop()
    metrics.tasks.set_function(lambda: len(asyncio.all_tasks(loop)))
    metrics.streams.set_function(lambda: sum(link.streams for link in registry.links))


def _data_path(
    footing: Footing,
    registry: Registry,
    admission: Admission,
    deadlines: Deadlines,
    around: Surroundings,
    budget: CreditBudget,
    flusher: Flusher,
    alarms: Alarms,
) -> SenderPort:
    loop, limits = asyncio.get_running_loop(), footing.settings.limits
    pacing = Pacing(loop, footing.clock.monotonic)
    footing.metrics.calls_paced.set_function(lambda: pacing.waiting)
    front = FrontDoor(
        loop=loop,
        admission=admission,
        uses=registry.uses,
        names=NodeNames(footing.settings.names.suffix),
        limits=limits,
        metrics=footing.metrics,
        deadlines=deadlines,
        pacing=pacing,
        budget=budget,
        id_prefix=secrets.token_hex(6),
        ready=lambda: around.lifecycle.ready and around.relay_ready(),
        log=get_logger("relay.calls"),
    )
    door = LinkDoor(
        loop=loop,
        front=front,
        admission=admission,
        registry=registry,
        claims=_claims(footing, registry, around),
        spawn=around.background.spawn,
        budget=budget,
        flusher=flusher,
        alarms=alarms,
        return_within_seconds=around.return_within_seconds,
    )
    return SenderPort(front, door, footing.metrics)


def _claims(footing: Footing, registry: Registry, around: Surroundings) -> Claims:
    return Claims(
        registry,
        limits=footing.settings.limits,
        metrics=footing.metrics,
        report=around.reports.add,
        log=get_logger("relay.registry"),
        elsewhere=around.elsewhere,
    )
