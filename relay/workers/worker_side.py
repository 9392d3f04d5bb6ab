"""What a worker does: it serves as a relay of one process does, and everything else is its parent's word.

Theory of operation. The parts are those of any relay (`compose_serving`), with the other workers as the registry's
`elsewhere`. Each message of the parent is a method here, or of `Siblings` where it is about the others' links; what the
parent is told is in `telling`, but for links. The end of the channel is the end of the worker, at once: without a
parent no revocation would reach it.
"""

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from certs.errors import CertificateError, TrustRollbackError
from relay.admission.quota_form import QuotaError, read_quotas
from relay.background import Background
from relay.bounds.lag_watch import follow_lag
from relay.bounds.memory import resident_bytes
from relay.composition import Footing, Surroundings, compose_serving
from relay.control_plane.reports import Reports
from relay.control_plane.trust_adoption import TrustAdoption
from relay.drain.draining import Draining
from relay.port.handshakes import SHUTDOWN_SECONDS
from relay.serving_port import open_port, sweep
from relay.workers.merged_metrics import families_of
from relay.workers.messages import Channel
from relay.workers.shared_quotas import SharedQuotas, Used
from relay.workers.sibling_links import SiblingLinks
from relay.workers.siblings import Siblings
from relay.workers.telling import Telling
from trunkline.runtime.lifecycle import Lifecycle
from trunkline.runtime.logs import get_logger


@dataclass(frozen=True, slots=True)
class Ground(Footing):
    """The footing of a worker, and the registry that it counts in."""

    metrics_registry: CollectorRegistry


class WorkerSide:
    """One worker, from its parent's first message on."""

    def __init__(self, ground: Ground, start: dict[str, Any], lifecycle: Lifecycle, background: Background) -> None:
        """Put it together.

        Args:
            ground: what the parent has established, read from the state directory.
            start: the members of the first message.
            lifecycle: asked for the end by the parent's messages.
            background: for its tasks.
        """
        self._ground = ground
        self._lifecycle = lifecycle
        self._background = background
        self._port: int = start["port"]
        self._pids: list[int] = start["pids"]
        self._return_within_seconds: int = start["return_within_seconds"]
        self._relay_ready = False
        self._channel = Channel(self._take, self._orphaned)
        self._finished = False
        self._siblings = Siblings(self._channel.send, background.spawn, get_logger("relay.workers"))
        self._quotas = SharedQuotas(ground.settings.workers)
        reports = Reports(settings=ground.settings.reports, metrics=ground.metrics, clock=ground.clock)
        self._telling = Telling(
            self._channel.send,
            reports=reports,
            reports_seconds=ground.settings.reports.interval_seconds,
            quotas=self._quotas,
            lifecycle=lifecycle,
        )
        around = Surroundings(
            background,
            lifecycle,
            reports,
            elsewhere=self._siblings,
            resident_bytes=self._resident_bytes,
            confirmed_at=start["confirmed_at"],
            return_within_seconds=lambda: self._return_within_seconds,
            relay_ready=lambda: self._relay_ready,
        )
        self._serving = compose_serving(ground, around, self._quotas)
        self._siblings.serve(self._serving.registry)
        self._adoption = TrustAdoption(
            store=ground.store,
            trust=self._serving.trust,
            registry=self._serving.registry,
            roots_changed=ground.serving.roots_changed,
            own_root=lambda: None,
            metrics=ground.metrics,
            report=self._telling.report,
            clock=ground.clock,
            log=get_logger("relay.trust"),
        )
        self._sibling_links = SiblingLinks(
            self._siblings, ground, self._serving, expected=start["siblings"], spawn=background.spawn
        )
        self.on_trust(start["trust"])
        self.on_quotas(start["quotas"])
        self._serving.trust_age.look()

    # Its life.

    async def connect(self, control: socket.socket, passing: socket.socket) -> None:
        """Take up the channel to the parent, and the links to the other workers."""
        loop = asyncio.get_running_loop()
        self._serving.deadlines.start()
        control.setblocking(False)
        await loop.create_unix_connection(lambda: self._channel, sock=control)
        self._sibling_links.follow(passing)
        await self._sibling_links.wait_for_all()

    async def serve(self) -> None:
        """Serve until the parent says that it is over, then drain.

        Raises:
            StartError: the port cannot be listened on.
        """
        ground, serving, spawn = self._ground, self._serving, self._background.spawn
        acceptor = await open_port(ground, serving, port=self._port, shared=True)
        acceptor.start()
        draining = Draining(
            acceptor=acceptor,
            port=serving.port,
            registry=serving.registry,
            lifecycle=self._lifecycle,
            limits=ground.settings.limits,
            clock=ground.clock,
            log=get_logger("relay"),
        )
        self._lifecycle.remark("connections", acceptor.remark)
        self._lifecycle.on_drain_progress(draining.left)
        spawn(sweep(serving, ground.clock))
        follow_lag(ground.metrics, ground.clock, self._lifecycle, self._background)
        spawn(self._siblings.keep_linked())
        self._telling.start(spawn)
        self._lifecycle.started()
        self._channel.send("serving")
        await self._lifecycle.drain_requested.wait()
        await draining.run()
        await self._finish()

    async def _finish(self) -> None:
        self._finished = True
        self._serving.deadlines.stop()
        self._telling.finish()
        self._sibling_links.abort()
        with contextlib.suppress(TimeoutError):
            await self._channel.flush(SHUTDOWN_SECONDS)

    def _orphaned(self) -> None:
        """The channel has ended, and not because this worker has closed it: the parent is gone."""
        if not self._finished:
            get_logger("relay.workers").error("worker.orphaned", reason="the relay's main process is gone")
            self._end_at_once()

    def _end_at_once(self) -> None:
        if not self._lifecycle.draining:
            self._lifecycle.request_drain()
        self._lifecycle.stop_requested.set()

    # What the parent says: one method for each type of message.

    def _take(self, kind: str, members: dict[str, Any]) -> None:
        handler = getattr(self, f"on_{kind}", None) or getattr(self._siblings, f"on_{kind}")
        handler(**members)

    def on_trust(self, document: str) -> None:
        """There is a new trust document; a worker that has just started may have found a newer one on the disk.

        Raises:
            CertificateError: it is refused, which the parent did not; a new worker may see better.
        """
        try:
            adopted = self._adoption.adopt(document)
        except TrustRollbackError:
            adopted = False
        if not adopted:
            self._channel.send("adopted", sequence=self._adoption.sequence, cut=0, cuts=[])

    def on_confirmed(self) -> None:
        """The trust document in force is the newest."""
        self._serving.trust_age.confirmed()

    def on_quotas(self, text: str) -> None:
        """There are other quotas."""
        if not text:
            return
        try:
            self._quotas.replace(read_quotas(text))
        except QuotaError as error:
            get_logger("relay.quotas").error("quotas.refused", reason=str(error))
        else:
            self._serving.trust.renew()

    def on_identity(self) -> None:
        """The relay's identity was renewed."""
        try:
            self._ground.identity.read_again()
        except CertificateError as error:
            get_logger("relay.identity").error("relay.identity_not_read", reason=str(error))

    def on_reload(self) -> None:
        """Read the public certificate again."""
        self._ground.serving.reload()

    def on_relay_ready(self, ready: bool) -> None:
        """Whether the relay as a whole is ready, which this worker tells load balancers."""
        self._relay_ready = ready

    def on_drain(self) -> None:
        """It is over."""
        if not self._lifecycle.draining:
            self._lifecycle.request_drain()
            self._telling.tell_state()

    def on_stop(self) -> None:
        """It is over now."""
        self._end_at_once()

    def on_pids(self, pids: list[int]) -> None:
        """These are the relay's processes."""
        self._pids = pids

    def on_returning(self, within_seconds: int) -> None:
        """The relay's nodes are to spread their return over so long, should it go."""
        self._return_within_seconds = within_seconds

    def on_metrics(self, question: int) -> None:
        """What is counted is asked for."""
        self._channel.send("metrics", question=question, families=families_of(self._ground.metrics_registry))

    def on_gone(self, worker: int) -> None:
        """Another worker has ended."""
        self._siblings.on_gone(worker)
        self._quotas.forget(worker)
        self._sibling_links.expect_no_more(worker)

    def on_used(self, worker: int, used: list[Used]) -> None:
        """Another worker's calls have used so much."""
        self._quotas.charge(worker, used, self._ground.clock.monotonic())

    def _resident_bytes(self) -> int:
        """The memory of all processes of the relay."""
        return resident_bytes(Path(f"/proc/{pid}/statm") for pid in self._pids)
