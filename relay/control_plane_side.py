"""The relay's side towards its control plane: what follows it, renews by it and reports to it, as tasks."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from relay.background import Background
from relay.bounds.disk_watch import DiskWatch
from relay.composition import Foundation
from relay.control_plane.clock_watch import ClockWatch
from relay.control_plane.presence import announce_port
from relay.control_plane.report_sender import ReportSender
from relay.control_plane.trust_feed import TrustAdopter, TrustFeed, feed_backoff
from relay.identity.late_renewal import LateRenewal
from relay.identity.renewal import Renewal
from relay.identity.rotation_watch import RotationWatch
from relay.identity.succession import Succession
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.lifecycle import Lifecycle
from trunkline.runtime.logs import get_logger

LOOK_SECONDS = 1.0


class Adoption(TrustAdopter, Protocol):
    """Who takes documents into force, and reports which one is."""

    def report_standing(self) -> None:
        """Report which document is in force, and which root the relay's own certificate stands on."""
        ...


@dataclass(frozen=True, slots=True)
class ControlPlaneSide:
    """What the control plane's word goes to, and what is told it.

    Attributes:
        confirmed: the document in force is the newest.
        refused: it has answered with this status, and this reason.
        take_quotas: the text of the quotas.
        disk: brings to the disk what is to be kept, and tries again what that did not take.
        port: by which nodes and senders reach the relay.
    """

    adoption: Adoption
    confirmed: Callable[[], None]
    refused: Callable[[int, str], None]
    take_quotas: Callable[[str], None]
    rotation: RotationWatch
    sender: ReportSender
    disk: DiskWatch
    port: int


def follow_control_plane(
    foundation: Foundation, side: ControlPlaneSide, background: Background, lifecycle: Lifecycle
) -> None:
    """Start everything that talks to the control plane, and have a clock that differs from its own remarked."""
    lifecycle.remark("clock", foundation.clock_offset.complaint)
    client, clock, rng, metrics = foundation.client, foundation.clock, foundation.rng, foundation.metrics
    log = get_logger("relay.control_plane")
    feed = TrustFeed(
        client=client,
        adopter=side.adoption,
        confirmed=side.confirmed,
        refused=side.refused,
        take_quotas=side.take_quotas,
        metrics=metrics,
        clock=clock,
        backoff=feed_backoff(rng),
        log=get_logger("relay.trust"),
    )
    renewal = _renewal(foundation, side.adoption)
    _follow_identity(foundation, background)
    _follow_rotation(foundation, side, renewal)
    background.spawn(feed.run())
    background.spawn(side.sender.run())
    background.spawn(renewal.run())
    background.spawn(announce_port(side.port, client=client, clock=clock, backoff=Backoff(rng), log=log))
    background.spawn(_look(ClockWatch(foundation.clock_offset, metrics, get_logger("relay.clock"))))
    background.spawn(side.disk.run())


def _renewal(foundation: Foundation, adoption: TrustAdopter) -> Renewal:
    log = get_logger("relay.identity")
    succession = Succession(
        foundation.settings.state_directory,
        identity=foundation.identity,
        store=foundation.store,
        clock=foundation.clock,
        log=log,
    )
    return Renewal(
        client=foundation.client,
        connect=foundation.connect,
        identity=foundation.identity,
        succession=succession,
        late=LateRenewal(identity=foundation.identity, succession=succession, take_trust=adoption.adopt),
        metrics=foundation.metrics,
        clock=foundation.clock,
        rng=foundation.rng,
        log=log,
    )


def _follow_identity(foundation: Foundation, background: Background) -> None:
    """Keep the control plane's client and the expiry gauges with the identity in force, and with what is presented.

    The client leaves a control plane, too, whose certificate a new document ends.
    """
    identity, metrics = foundation.identity, foundation.metrics
    metrics.serving_expiry.set_function(lambda: foundation.serving.not_after)
    metrics.certificate_expiry.set(identity.current.not_after)
    identity.subscribe(lambda renewed: metrics.certificate_expiry.set(renewed.not_after))
    identity.subscribe(lambda renewed: foundation.client.swap(foundation.trust.tls(renewed), background.spawn))
    foundation.store.subscribe(lambda document: foundation.client.cut_ended(background.spawn))


def _follow_rotation(foundation: Foundation, side: ControlPlaneSide, renewal: Renewal) -> None:
    """Renew what a rotation ends, and report it when that is done."""

    def look(*_: object) -> None:
        side.rotation.look(renewal.ask)

    foundation.store.subscribe(look)
    foundation.identity.subscribe(lambda renewed: side.adoption.report_standing())
    foundation.identity.subscribe(look)
    look()
    side.adoption.report_standing()


async def _look(watch: ClockWatch) -> None:
    """Once a second: look at the clock."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        watch.look()
