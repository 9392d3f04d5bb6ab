"""What a worker does: it serves as a relay of one process does, and everything else is its parent's word.

Theory of operation. The parts are those of any relay (`compose_serving`), with the other workers as the registry's
`elsewhere`. Each message of the parent is a method here; what is told to the parent are links, reports, what was cut,
what quotas were used, and once a second how this worker is. The end of the channel is the end of the worker, at once:
without a parent no revocation would reach it.
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
from relay.port.acceptor import SHUTDOWN_SECONDS
from relay.serving_port import open_port, sweep
from relay.workers.hop import hop_limits
from relay.workers.merged_metrics import families_of
from relay.workers.messages import Channel
from relay.workers.passing import End, handed_in
from relay.workers.shared_quotas import TELL_SECONDS, SharedQuotas, Used
from relay.workers.siblings import Siblings
from relay.workers.splice import HopDoor
from trunkline.channel.link import Link, Role
from trunkline.runtime.lifecycle import Lifecycle
from trunkline.runtime.logs import get_logger

STATE_SECONDS = 1.0
DRAINING_STATE_SECONDS = 0.25
SIBLINGS_SECONDS = 5.0
"""How long a worker that starts waits for its links to the others, before it serves without them."""


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
        self._channel = Channel(self._take, self._orphaned)
        self._finished = False
        self._siblings = Siblings(self._channel.send, background.spawn, get_logger("relay.workers"))
        self._expected: set[int] = set(start["siblings"])
        self._all_linked = asyncio.Event()
        self._quotas = SharedQuotas()
        self._reports = Reports(settings=ground.settings.reports, metrics=ground.metrics, clock=ground.clock)
        around = Surroundings(
            background,
            lifecycle,
            self._reports,
            elsewhere=self._siblings,
            resident_bytes=self._resident_bytes,
            confirmed_at=start["confirmed_at"],
            return_within_seconds=lambda: self._return_within_seconds,
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
            report=self._report,
            clock=ground.clock,
            log=get_logger("relay.trust"),
        )
        self._door = HopDoor(
            find=self._siblings.listener,
            hopped=self._count_hop,
            lost=self._siblings.unlinked,
            deadlines=self._serving.deadlines,
            untaken=self._serving.port.front.untaken,
            listener_seconds=ground.settings.limits.listener_seconds,
            stall_seconds=ground.settings.limits.stream_stall_seconds,
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
        passing.setblocking(False)
        loop.add_reader(passing.fileno(), self._take_ends, passing)
        self._look_whether_linked()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SIBLINGS_SECONDS):
                await self._all_linked.wait()

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
        spawn(self._tell_state())
        spawn(self._tell_used())
        spawn(self._tell_reports())
        self._lifecycle.started()
        self._channel.send("serving")
        await self._lifecycle.drain_requested.wait()
        await draining.run()
        await self._finish()

    async def _finish(self) -> None:
        self._finished = True
        self._serving.deadlines.stop()
        self._reports.fold()
        self._hand_over_reports()
        self._tell_how_it_is()
        for link in self._siblings.links.values():
            link.abort()
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
        getattr(self, f"on_{kind}")(**members)

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

    def on_drain(self) -> None:
        """It is over."""
        if not self._lifecycle.draining:
            self._lifecycle.request_drain()
            self._tell_how_it_is()

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

    def on_opened(self, **entry: Any) -> None:
        """Another worker has a node's newest link."""
        self._siblings.opened(**entry)

    def on_closed(self, node_id: str, worker: int, number: int) -> None:
        """It takes no calls any more."""
        self._siblings.closed(node_id, worker, number)

    def on_gone(self, worker: int) -> None:
        """Another worker has ended."""
        self._siblings.gone(worker)
        self._quotas.forget(worker)
        self._expected.discard(worker)
        self._look_whether_linked()

    def on_outdone(self, number: int) -> None:
        """A link of this worker is not its node's newest."""
        self._siblings.outdone(number)

    def on_challenge(self, number: int, question: int) -> None:
        """A link of this worker is to be pinged."""
        self._siblings.challenge(number, question)

    def on_judged(self, question: int, verdict: str) -> None:
        """A link was judged."""
        self._siblings.answered(question, verdict)

    def on_links(self, worker: int, links: dict[str, int]) -> None:
        """Another worker has so many links of these workspaces."""
        self._siblings.counted(worker, links)

    def on_used(self, worker: int, used: list[Used]) -> None:
        """Another worker's calls have used so much."""
        self._quotas.charge(worker, used, self._ground.clock.monotonic())

    # Links to other workers.

    def _take_ends(self, passing: socket.socket) -> None:
        try:
            for end in handed_in(passing):
                self._background.spawn(self._link(end))
        except EOFError:
            asyncio.get_running_loop().remove_reader(passing.fileno())

    async def _link(self, end: End) -> None:
        limits = self._ground.settings.limits
        link = Link(
            Role.CLIENT if end.client else Role.SERVER,
            self._door,
            loop=asyncio.get_running_loop(),
            limits=hop_limits(window_bytes=limits.window_bytes, budget_bytes=limits.credit_budget_bytes),
            send_window_bytes=limits.window_bytes,
            compact=True,
            budget=self._serving.budget,
            keepalive_seconds=None,
            flusher=self._serving.flusher,
            alarms=self._serving.alarms,
        )
        await asyncio.get_running_loop().create_unix_connection(link.as_protocol, sock=end.socket)
        self._siblings.linked(end.worker, link)
        self._expected.discard(end.worker)
        self._look_whether_linked()

    def _look_whether_linked(self) -> None:
        if not self._expected:
            self._all_linked.set()

    def _count_hop(self) -> None:
        self._ground.metrics.hops.of().count += 1

    # What is told to the parent.

    def _report(self, kind: str, **members: Any) -> None:
        """Report an event; which document is in force is the parent's to report, once it is everywhere."""
        if kind != "trust":
            self._reports.add(kind, **members)
        elif "cut" in members:
            self._channel.send("adopted", sequence=members["sequence"], cut=members["cut"], cuts=members["cuts"])

    async def _tell_reports(self) -> None:
        while True:
            await asyncio.sleep(self._ground.settings.reports.interval_seconds)
            self._hand_over_reports()

    def _hand_over_reports(self) -> None:
        while (batch := self._reports.next_batch()) is not None:
            self._channel.send("reports", items=batch.items, dropped=batch.dropped)
            self._reports.handed_over(batch)

    async def _tell_used(self) -> None:
        while True:
            await asyncio.sleep(TELL_SECONDS)
            used = self._quotas.used()
            if used:
                self._channel.send("used", used=used)

    async def _tell_state(self) -> None:
        while True:
            self._tell_how_it_is()
            await asyncio.sleep(DRAINING_STATE_SECONDS if self._lifecycle.draining else STATE_SECONDS)

    def _tell_how_it_is(self) -> None:
        lifecycle = self._lifecycle
        self._channel.send(
            "state", unmet=lifecycle.unmet_conditions(), remarks=lifecycle.remarks(), left=lifecycle.left()
        )

    def _resident_bytes(self) -> int:
        """The memory of all processes of the relay."""
        return resident_bytes(Path(f"/proc/{pid}/statm") for pid in self._pids)
