"""A worker: a process that carries calls and links, and speaks with its parent and with the other workers only.

    python -m relay.workers.worker CONTROL PASSING

The two numbers are descriptors that the parent has left open: the channel between the two, whose first message says
everything that the worker is to know, and a socket over which the ends of links to other workers are handed in.

Signals are the parent's: what is sent to the whole group, as by a terminal or a service manager, does nothing here.
"""

import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

import structlog

from certs.errors import CertificateError
from certs.trust import TrustStore
from relay.background import Background
from relay.identity.establishing import TRUST_FILE
from relay.identity.own_identity import IDENTITY_FILE, OwnIdentity, load_identity
from relay.identity.serving_tls import ServingTls
from relay.metrics import RelayMetrics
from relay.settings import RelaySettings
from relay.workers.messages import OTHER_RELEASE_STATUS, Channel
from relay.workers.worker_side import Ground, WorkerSide
from trunkline.runtime.clock import SystemClock
from trunkline.runtime.daemon import StartError, run_to_exit
from trunkline.runtime.daemon_metrics import daemon_registry
from trunkline.runtime.lifecycle import Lifecycle
from trunkline.runtime.logs import configure_logging, get_logger
from trunkline.runtime.systemd import ServiceNotifier
from trunkline.version import __version__

EXIT_ORPHANED = 75


def main(argv: Sequence[str] | None = None) -> int:
    """Serve as a worker until the parent says that it is over; returns the exit code."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    control_fd, passing_fd = map(int, sys.argv[1:] if argv is None else argv)
    control = socket.socket(fileno=control_fd)
    try:
        start = Channel.read_first(control)
    except EOFError:
        return EXIT_ORPHANED
    if start.get("release") != __version__:  # then nothing of what it says is sure to mean what it says here
        control.close()
        return OTHER_RELEASE_STATUS
    passing = socket.socket(fileno=passing_fd)
    settings = RelaySettings(**start["settings"])
    configure_logging(settings.log.level, settings.log.format)
    structlog.contextvars.bind_contextvars(worker=start["worker"])
    return run_to_exit(
        lambda: serve(settings, start, control, passing), event_loop=settings.event_loop, log=get_logger("relay")
    )


async def serve(settings: RelaySettings, start: dict[str, Any], control: socket.socket, passing: socket.socket) -> None:
    """Serve until the parent has this worker drain, or is gone.

    Raises:
        StartError: it cannot.
    """
    ground = _ground(settings)
    lifecycle = Lifecycle(state_directory=None, notifier=ServiceNotifier(None, None), log=get_logger("relay"))
    async with Background() as background:
        side = WorkerSide(ground, start, lifecycle, background)
        await side.connect(control, passing)
        await side.serve()


def _ground(settings: RelaySettings) -> Ground:
    """Read what the parent has established.

    Raises:
        StartError: it is damaged.
    """
    directory, metrics_registry = settings.state_directory, daemon_registry()
    metrics = RelayMetrics(metrics_registry, max_workspaces=settings.metrics.max_workspaces)
    try:
        loaded = load_identity(directory)
        if loaded is None:
            raise StartError(f"{directory / IDENTITY_FILE}: no such file")
        identity = OwnIdentity(loaded, directory / IDENTITY_FILE)
        store = TrustStore.following(directory / TRUST_FILE)
        serving = ServingTls(identity, store, settings.certificate, log=get_logger("relay.identity"))
    except CertificateError as error:
        raise StartError(str(error)) from None
    metrics.serving_expiry.set_function(lambda: serving.not_after)
    metrics.certificate_expiry.set(identity.current.not_after)
    identity.subscribe(lambda renewed: metrics.certificate_expiry.set(renewed.not_after))
    return Ground(settings, identity, store, serving, metrics, SystemClock(), metrics_registry)


if __name__ == "__main__":
    raise SystemExit(main())
