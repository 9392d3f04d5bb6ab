"""The relay daemon: starts, serves until it is asked to end, drains, and goes.

Order: settings, state directory, identity (enrolment if there is none), trust, the listening socket, then everything
that talks to the control plane, which a relay that has run before does not need in order to serve.
"""

import asyncio
import os
import random
import resource
import sys
from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from certs.errors import CertificateError
from relay.acceptor import SHUTDOWN_SECONDS, Acceptor
from relay.background import Background
from relay.capacity import most_connections
from relay.clock_watch import ClockWatch
from relay.composition import Foundation, Relay, compose
from relay.drain_command import run_drain
from relay.draining import Draining
from relay.enrolment import problems_with_enrolment
from relay.establishing import STATE_FORMAT, Established, Establishing
from relay.lag_watch import LagWatch
from relay.late_renewal import LateRenewal
from relay.listening import open_listening
from relay.metrics import RelayMetrics
from relay.presence import announce_port
from relay.renewal import Renewal
from relay.serving_tls import ServingTls
from relay.settings import ENVIRONMENT_PREFIX, RelaySettings
from relay.succession import Succession
from relay.trust_feed import TrustFeed
from trunkline.runtime.admin import AdminServer
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import SystemClock
from trunkline.runtime.daemon import EXIT_UNAVAILABLE, Daemon, StartError, run_daemon
from trunkline.runtime.daemon_metrics import daemon_registry
from trunkline.runtime.files import StateDirectory
from trunkline.runtime.lifecycle import Lifecycle
from trunkline.runtime.logs import get_logger
from trunkline.runtime.loop import watch_lag
from trunkline.runtime.systemd import ServiceNotifier

SWEEP_SECONDS = 1.0
RESERVED_FILES = 256
"""Of the files that a process may open, those that are not for connections on the port."""


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
    """Name what a relay that is yet to enrol lacks, which the settings only point at."""
    return problems_with_enrolment(settings.enrolment, settings.state_directory)


async def serve(settings: RelaySettings) -> None:
    """Run the relay until it has drained.

    Raises:
        StartError, StateDirectoryError: it cannot run; the message says what to do.
    """
    log = get_logger("relay")
    clock, rng = SystemClock(), random.SystemRandom()
    with (
        StateDirectory(settings.state_directory, format_name=STATE_FORMAT),
        Lifecycle(
            state_directory=settings.state_directory,
            notifier=ServiceNotifier.from_environment(os.environ),
            log=log,
        ) as lifecycle,
    ):
        metrics_registry = daemon_registry()
        admin = AdminServer(settings.admin.address, settings.admin.port, metrics=metrics_registry, lifecycle=lifecycle)
        async with admin:
            established = await lifecycle.unless_drained(Establishing(settings, clock=clock, rng=rng, log=log).run())
            if established is None:
                return
            foundation = _foundation(settings, established, metrics_registry, clock, rng)
            try:
                await _run(foundation, lifecycle, admin.url)
            finally:
                await foundation.client.close()


async def _run(foundation: Foundation, lifecycle: Lifecycle, admin_url: str) -> None:
    settings = foundation.settings
    async with Background() as background:
        relay = compose(foundation, background, lifecycle)
        relay.deadlines.start()
        acceptor = await _listen(foundation, relay)
        acceptor.start()
        draining = _draining(foundation, relay, acceptor, lifecycle)
        background.spawn(relay.nodes.run(settings.limits.return_seconds))
        _start_tasks(foundation, relay, lifecycle, background, settings.advertise.port or acceptor.port)
        lifecycle.remark("connections", acceptor.remark)
        lifecycle.on_drain_progress(draining.left)
        lifecycle.on_reload(foundation.serving.reload)
        lifecycle.started(url=f"https://{_host(foundation)}:{acceptor.port}", admin_url=admin_url)
        await lifecycle.drain_requested.wait()
        relay.nodes.close()
        await draining.run()
        relay.deadlines.stop()
        relay.rotation.close()
        await relay.sender.flush(SHUTDOWN_SECONDS)


def _draining(foundation: Foundation, relay: Relay, acceptor: Acceptor, lifecycle: Lifecycle) -> Draining:
    return Draining(
        acceptor=acceptor,
        port=relay.port,
        registry=relay.registry,
        lifecycle=lifecycle,
        limits=foundation.settings.limits,
        clock=foundation.clock,
        log=get_logger("relay"),
    )


async def _listen(foundation: Foundation, relay: Relay) -> Acceptor:
    listen = foundation.settings.listen
    try:
        listening = await open_listening(listen.address, listen.port, backlog=listen.backlog)
    except OSError as error:
        where = f"{listen.address}:{listen.port}"
        raise StartError(f"cannot listen on {where}: {error}; change [listen]", EXIT_UNAVAILABLE) from None
    return Acceptor(
        listening,
        port=relay.port,
        context=foundation.serving.context,
        max_connections=_most_connections(most_connections(foundation.settings.limits, get_logger("relay"))),
        metrics=foundation.metrics,
        log=get_logger("relay.port"),
    )


def _start_tasks(
    foundation: Foundation, relay: Relay, lifecycle: Lifecycle, background: Background, advertised_port: int
) -> None:
    client, clock, rng, metrics = foundation.client, foundation.clock, foundation.rng, foundation.metrics
    log = get_logger("relay.control_plane")
    feed = TrustFeed(
        client=client,
        adopter=relay.adoption,
        confirmed=relay.trust_age.confirmed,
        take_quotas=relay.quotas.take,
        metrics=metrics,
        clock=clock,
        backoff=Backoff(rng),
        log=get_logger("relay.trust"),
    )
    succession = Succession(
        foundation.settings.state_directory,
        identity=foundation.identity,
        store=foundation.store,
        clock=clock,
        log=get_logger("relay.identity"),
    )
    renewal = Renewal(
        client=client,
        connect=foundation.connect,
        identity=foundation.identity,
        succession=succession,
        late=LateRenewal(identity=foundation.identity, succession=succession, take_trust=relay.adoption.adopt),
        metrics=metrics,
        clock=clock,
        rng=rng,
        log=get_logger("relay.identity"),
    )
    _follow_identity(foundation, background)
    _follow_rotation(foundation, relay, renewal)
    background.spawn(feed.run())
    background.spawn(relay.sender.run())
    background.spawn(renewal.run())
    background.spawn(announce_port(advertised_port, client=client, clock=clock, backoff=Backoff(rng), log=log))
    watch = ClockWatch(foundation.clock_offset, metrics, get_logger("relay.clock"))
    background.spawn(_sweep(foundation, relay, watch))
    background.spawn(lifecycle.keep_watchdog())
    lag = LagWatch(metrics.loop_lag_seconds.of().observe, clock.monotonic)
    lifecycle.remark("event_loop", lag.remark)
    background.spawn(watch_lag(lag.heard, clock))


def _follow_identity(foundation: Foundation, background: Background) -> None:
    """Keep the control plane's client and the expiry gauges with the identity in force, and with what is presented."""
    identity, metrics = foundation.identity, foundation.metrics
    metrics.serving_expiry.set_function(lambda: foundation.serving.not_after)
    metrics.certificate_expiry.set(identity.current.not_after)
    identity.subscribe(lambda renewed: metrics.certificate_expiry.set(renewed.not_after))
    identity.subscribe(lambda renewed: foundation.client.swap(foundation.trust.tls(renewed), background.spawn))


def _follow_rotation(foundation: Foundation, relay: Relay, renewal: Renewal) -> None:
    """Renew what a rotation ends, and report it when that is done."""

    def look(*_: object) -> None:
        relay.rotation.look(renewal.ask)

    foundation.store.subscribe(look)
    foundation.identity.subscribe(lambda renewed: relay.adoption.report_standing())
    foundation.identity.subscribe(look)
    look()
    relay.adoption.report_standing()


async def _sweep(foundation: Foundation, relay: Relay, watch: ClockWatch) -> None:
    """Once a second: drain links whose token has ended, let locks end, look at the clock and the trust's age."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        now = foundation.clock.now()
        relay.registry.drain_expired(now)
        relay.memory.look()
        relay.held.look()
        relay.stalls.look()
        relay.disk.look()
        watch.look()
        if now >= relay.trust.standing.valid_until:
            relay.trust.renew()
        relay.trust_age.look()


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


def _most_connections(wanted: int) -> int:
    """Take as many files as the system allows, for every connection is one; return how many connections that makes."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most == resource.RLIM_INFINITY or wanted + RESERVED_FILES <= most:
        return wanted
    bound = max(most - RESERVED_FILES, most // 2)
    get_logger("relay").warning(
        "relay.fewer_connections",
        max_connections=bound,
        wanted=wanted,
        hint="raise LimitNOFILE",
    )
    return bound
