"""The relay daemon: starts, serves until it is asked to end, drains, and goes.

Order: settings, state directory, identity (enrolment if there is none), trust, the listening socket, then everything
that talks to the control plane, which a relay that has run before does not need in order to serve.
"""

import asyncio
import os
import random
import sys
from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from certs.errors import CertificateError
from relay.background import Background
from relay.bounds.lag_watch import follow_lag
from relay.composition import Foundation, Relay, Serving, compose
from relay.control_plane.server_trust import ControlPlaneTrust
from relay.control_plane_side import ControlPlaneSide, follow_control_plane
from relay.drain.command import run_drain
from relay.drain.draining import Draining
from relay.identity.enrolment import problems_with_enrolment
from relay.identity.establishing import STATE_FORMAT, Established, Establishing
from relay.identity.serving_tls import ServingTls, load_public
from relay.metrics import RelayMetrics
from relay.port.acceptor import Acceptor
from relay.port.handshakes import SHUTDOWN_SECONDS
from relay.serving_port import open_port, sweep
from relay.settings import ENVIRONMENT_PREFIX, RelaySettings
from relay.workers.merged_metrics import MergedMetrics
from relay.workers.parent import run_parent
from trunkline.runtime.admin import AdminServer
from trunkline.runtime.clock import SystemClock
from trunkline.runtime.daemon import Daemon, StartError, run_daemon
from trunkline.runtime.daemon_metrics import daemon_registry
from trunkline.runtime.files import StateDirectory
from trunkline.runtime.lifecycle import Lifecycle
from trunkline.runtime.logs import get_logger
from trunkline.runtime.systemd import ServiceNotifier
from trunkline.runtime.threads import started_threads

THREADS = 4
"""For the three that write to the disk (trust and quotas, the number of nodes, a renewal), and for names that are
looked up where the loop has no threads of its own."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the relay, or ask the one that runs to `drain`; returns the exit code."""
    daemon = Daemon(
        name="relay",
        prefix=ENVIRONMENT_PREFIX,
        settings_class=RelaySettings,
        serve=serve,
        check=check,
        epilog="`trunkline relay drain --config FILE --wait` ends the relay that runs, and tells what it waits for.",
    )
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["drain"]:
        return run_drain(daemon, arguments[1:])
    return run_daemon(daemon, arguments)


def check(settings: RelaySettings) -> list[str]:
    """Name what is wrong with files that the settings only point at; the join token counts before enrolment only."""
    problems = problems_with_enrolment(settings.enrolment, settings.state_directory)
    try:
        ControlPlaneTrust(settings.control_plane).tls(None)
    except CertificateError as error:
        problems.append(f"[control_plane]: {error}")
    try:
        load_public(settings.certificate)
    except CertificateError as error:
        problems.append(f"[certificate]: {error}")
    return problems


async def serve(settings: RelaySettings) -> None:
    """Run the relay until it has drained.

    Raises:
        StartError, StateDirectoryError: it cannot run; the message says what to do.
    """
    log = get_logger("relay")
    clock, rng = SystemClock(), random.SystemRandom()
    asyncio.get_running_loop().set_default_executor(started_threads(THREADS))
    with (
        StateDirectory(settings.state_directory, format_name=STATE_FORMAT),
        Lifecycle(
            state_directory=settings.state_directory,
            notifier=ServiceNotifier.from_environment(os.environ),
            log=log,
        ) as lifecycle,
    ):
        metrics_registry = daemon_registry()
        page = MergedMetrics(metrics_registry) if settings.workers > 1 else None
        admin = AdminServer(
            settings.admin.address,
            settings.admin.port,
            metrics=metrics_registry if page is None else page.registry(),
            lifecycle=lifecycle,
            gather=None if page is None else page.gather,
        )
        async with admin:
            established = await lifecycle.unless_drained(Establishing(settings, clock=clock, rng=rng, log=log).run())
            if established is None:
                return
            foundation = _foundation(settings, established, metrics_registry, clock, rng)
            try:
                if page is None:
                    await _run(foundation, lifecycle, admin.url)
                else:
                    await run_parent(foundation, lifecycle, page, host=_host(foundation), admin_url=admin.url)
            finally:
                await foundation.client.close()


async def _run(foundation: Foundation, lifecycle: Lifecycle, admin_url: str) -> None:
    settings = foundation.settings
    async with Background() as background:
        foundation.metrics.workers.set(1)
        relay = compose(foundation, background, lifecycle)
        serving = relay.serving
        serving.deadlines.start()
        acceptor = await open_port(foundation, serving, port=settings.listen.port)
        acceptor.start()
        draining = _draining(foundation, serving, acceptor, lifecycle)
        background.spawn(relay.nodes.run(settings.limits.return_seconds))
        port = settings.advertise.port or acceptor.port
        follow_control_plane(foundation, _control_plane_side(relay, port), background, lifecycle)
        background.spawn(sweep(serving, foundation.clock))
        background.spawn(lifecycle.keep_watchdog())
        follow_lag(foundation.metrics, foundation.clock, lifecycle, background)
        lifecycle.remark("connections", acceptor.remark)
        lifecycle.on_drain_progress(draining.left)
        lifecycle.on_reload(foundation.serving.reload)
        lifecycle.started(url=f"https://{_host(foundation)}:{acceptor.port}", admin_url=admin_url)
        await lifecycle.drain_requested.wait()
        await asyncio.gather(relay.nodes.close(), draining.run())  # a slow disk does not put the drain off
        serving.deadlines.stop()
        relay.rotation.close()
        await relay.sender.flush(SHUTDOWN_SECONDS)


def _control_plane_side(relay: Relay, port: int) -> ControlPlaneSide:
    def confirmed() -> None:
        relay.serving.trust_age.confirmed()
        relay.in_service.confirmed()

    return ControlPlaneSide(
        adoption=relay.adoption,
        confirmed=confirmed,
        refused=relay.in_service.refused,
        take_quotas=relay.quota_keeper.take,
        rotation=relay.rotation,
        sender=relay.sender,
        disk=relay.disk,
        port=port,
    )


def _draining(foundation: Foundation, serving: Serving, acceptor: Acceptor, lifecycle: Lifecycle) -> Draining:
    return Draining(
        acceptor=acceptor,
        port=serving.port,
        registry=serving.registry,
        lifecycle=lifecycle,
        limits=foundation.settings.limits,
        clock=foundation.clock,
        log=get_logger("relay"),
    )


def _foundation(
    settings: RelaySettings,
    established: Established,
    metrics_registry: CollectorRegistry,
    clock: SystemClock,
    rng: random.Random,
) -> Foundation:
    try:
        serving = ServingTls(
            established.identity, established.store, settings.certificate, log=get_logger("relay.identity")
        )
    except CertificateError as error:
        raise StartError(f"[certificate]: {error}") from None
    return Foundation(
        settings=settings,
        identity=established.identity,
        store=established.store,
        trust=established.trust,
        client=established.client,
        clock_offset=established.clock_offset,
        serving=serving,
        metrics_registry=metrics_registry,
        metrics=RelayMetrics(metrics_registry, max_workspaces=settings.metrics.max_workspaces),
        clock=clock,
        rng=rng,
    )


def _host(foundation: Foundation) -> str:
    """The name by which this relay is best reached from where it stands."""
    return foundation.serving.dns_name or foundation.settings.listen.address
