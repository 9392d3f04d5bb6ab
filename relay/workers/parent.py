"""The parent of a relay with workers: it speaks with the control plane and with its workers, and takes no connection.

To operators and to the control plane the relay is this process: its state directory, its readiness, its metrics, its
signals, its certificate. What comes from senders and nodes, the workers read.
"""

import asyncio
import contextlib
import math
import socket
from functools import partial
from typing import Any

from certs.identities import Identity
from relay.admission.quota_keeper import QuotaKeeper
from relay.admission.quotas import Quotas
from relay.background import Background
from relay.bounds.lag_watch import follow_lag
from relay.composition import (
    Foundation,
    compose_disk_watch,
    compose_nodes_return,
    compose_report_sender,
    compose_rotation_watch,
)
from relay.control_plane.in_service import InService
from relay.control_plane.reports import Reports
from relay.control_plane_side import ControlPlaneSide, follow_control_plane
from relay.port.handshakes import SHUTDOWN_SECONDS
from relay.settings import RelaySettings
from relay.workers.adoption import SharedAdoption
from relay.workers.children import Children
from relay.workers.merged_metrics import MergedMetrics
from relay.workers.reserving import reserve
from relay.workers.states import State, WorkerStates
from relay.workers.switchboard import Switchboard
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.daemon import EXIT_UNAVAILABLE, StartError
from trunkline.runtime.lifecycle import Lifecycle
from trunkline.runtime.logs import get_logger
from trunkline.version import __version__

REMARKS = ("connections", "event_loop", "memory", "trust_document")
DIVIDED = {
    "max_connections": 1,
    "max_handshakes": 1,
    "max_handshakes_per_address": 1,
    "handshakes_per_second": 10,
    "credit_budget_bytes": 1024,
    "held_budget_bytes": 1024,
}
"""Limits of the whole relay of which each worker has its part, rounded up; and the least that each may be."""


async def run_parent(
    foundation: Foundation, lifecycle: Lifecycle, page: MergedMetrics, *, host: str, admin_url: str
) -> None:
    """Run the relay until it has drained.

    Raises:
        StartError: the port cannot be listened on, or a worker cannot start.
    """
    listen = foundation.settings.listen
    try:
        reserved = await reserve(listen.address, listen.port)
    except OSError as error:
        where = f"{listen.address}:{listen.port}"
        raise StartError(f"cannot listen on {where}: {error}; change [listen]", EXIT_UNAVAILABLE) from None
    with contextlib.ExitStack() as stack:
        for place in reserved:
            stack.enter_context(place)
        async with Background() as background:
            parent = Parent(foundation, lifecycle, background, page, _port_of(reserved))
            await parent.run(f"https://{host}:{_port_of(reserved)}", admin_url)


class Parent:
    """The parent's parts, and its main coroutine."""

    def __init__(
        self,
        foundation: Foundation,
        lifecycle: Lifecycle,
        background: Background,
        page: MergedMetrics,
        port: int,
    ) -> None:
        settings, clock, metrics = foundation.settings, foundation.clock, foundation.metrics
        self._foundation = foundation
        self._lifecycle = lifecycle
        self._background = background
        self._page = page
        self._port = port
        self._confirmed_at = clock.monotonic()
        self._states = WorkerStates()
        self._was_ready = False
        self._ready = lifecycle.condition("workers")
        self._reports = Reports(settings=settings.reports, metrics=metrics, clock=clock)
        self._sender = compose_report_sender(foundation, self._reports)
        self._nodes = compose_nodes_return(foundation, lifecycle)
        self._in_service = InService(lifecycle.condition("in_service"))
        self._return_within_seconds = self._nodes.return_within_seconds
        self._children = Children(
            places=settings.workers,
            first_words=self._first_words,
            take=self._take,
            ended=self._ended,
            make_backoff=lambda: Backoff(foundation.rng),
            clock=clock,
            log=get_logger("relay.workers"),
        )
        self._switchboard = Switchboard(
            self._children,
            spawn=background.spawn,
            counted=self._counted,
            ping_seconds=settings.limits.ping_seconds,
        )
        self._quotas = QuotaKeeper(settings.state_directory, Quotas(), self._tell_quotas, get_logger("relay.quotas"))
        self._rotation = compose_rotation_watch(foundation)
        self._disk = compose_disk_watch(foundation, self._quotas, lifecycle)
        self._adoption = SharedAdoption(
            store=foundation.store,
            serving=lambda: self._children.serving,
            hand_out=self._hand_out,
            own_root=lambda: self._rotation.root_id,
            metrics=metrics,
            report=self._reports.add,
            clock=clock,
            log=get_logger("relay.trust"),
            once_kept=self._disk.once_kept,
        )

    async def run(self, url: str, admin_url: str) -> None:
        """Start the workers, and run until they have drained."""
        foundation, lifecycle, spawn = self._foundation, self._lifecycle, self._background.spawn
        limits = foundation.settings.limits
        self._page.subscribe(lambda question: self._children.send_all("metrics", question=question))
        for name in REMARKS:
            lifecycle.remark(name, partial(self._states.remark, name))
        lifecycle.remark("workers", self._remark_on_workers)
        lifecycle.on_drain_progress(self._states.left)
        lifecycle.on_reload(self._tell_reload)
        foundation.identity.subscribe(self._tell_identity)
        for place in range(1, foundation.settings.workers + 1):
            spawn(self._children.keep(place))
        spawn(self._children.watch())
        spawn(self._nodes.run(limits.return_seconds))
        follow_control_plane(foundation, self._control_plane_side(), self._background, lifecycle)
        spawn(lifecycle.keep_watchdog())
        loop = asyncio.get_running_loop()
        foundation.metrics.tasks.set_function(lambda: len(asyncio.all_tasks(loop)))
        follow_lag(foundation.metrics, foundation.clock, lifecycle, self._background, "parent_event_loop")
        lifecycle.started(url=url, admin_url=admin_url)
        await lifecycle.drain_requested.wait()
        await asyncio.gather(self._nodes.close(), self._drain())  # a slow disk does not put the drain off
        self._rotation.close()
        await self._sender.flush(SHUTDOWN_SECONDS)

    def _control_plane_side(self) -> ControlPlaneSide:
        return ControlPlaneSide(
            adoption=self._adoption,
            confirmed=self._confirmed,
            refused=self._in_service.refused,
            take_quotas=self._quotas.take,
            rotation=self._rotation,
            sender=self._sender,
            disk=self._disk,
            port=self._foundation.settings.advertise.port or self._port,
        )

    async def _drain(self) -> None:
        """Have the workers drain, each as a relay of one process does, and wait until they have ended."""
        limits = self._foundation.settings.limits
        self._children.ask_to_end()
        seconds = limits.drain_lead_seconds + limits.drain_seconds + 4 * SHUTDOWN_SECONDS
        await self._lifecycle.within_drain(self._children.all_ended(), seconds)
        await self._children.stop(4 * SHUTDOWN_SECONDS)

    # What workers are told.

    def _first_words(self, place: int) -> dict[str, Any]:
        return {
            "release": __version__,
            "settings": settings_of_worker(self._foundation.settings).model_dump(mode="json", exclude_none=True),
            "port": self._port,
            "trust": self._foundation.store.text,
            "quotas": self._quotas.text,
            "confirmed_at": self._confirmed_at,
            "return_within_seconds": self._return_within_seconds,
        }

    def _hand_out(self, document: str) -> None:
        self._children.send_all("trust", document=document)

    def _tell_reload(self) -> None:
        self._children.send_all("reload")

    def _tell_identity(self, renewed: Identity) -> None:
        self._children.send_all("identity")

    def _confirmed(self) -> None:
        self._confirmed_at = self._foundation.clock.monotonic()
        self._in_service.confirmed()
        self._children.send_all("confirmed")

    def _tell_quotas(self) -> None:
        # Asked for while the keeper is made as well, when there is nobody to tell.
        if self._children.pids[1:]:
            self._children.send_all("quotas", text=self._quotas.text)

    def _counted(self, nodes: int) -> None:
        """Hear how many nodes have a link, and tell over how long they are to spread their return."""
        self._nodes.counted(nodes)
        self._in_service.counted(nodes)
        within_seconds = self._nodes.return_within_seconds
        if within_seconds != self._return_within_seconds:
            self._return_within_seconds = within_seconds
            self._children.send_all("returning", within_seconds=within_seconds)

    # What workers say.

    def _take(self, worker: int, kind: str, members: dict[str, Any]) -> None:
        handler = getattr(self, f"_on_{kind}", None) or getattr(self._switchboard, f"on_{kind}")
        handler(worker, **members)

    def _on_serving(self, worker: int) -> None:
        self._foundation.metrics.workers.set(len(self._children.serving))
        self._switchboard.on_serving(worker)

    def _on_state(self, worker: int, **state: Any) -> None:
        self._states.said(worker, State(**state))
        self._look_whether_ready()
        self._children.send(worker, "relay_ready", ready=self._lifecycle.ready)

    def _on_reports(self, worker: int, items: list[dict[str, Any]], dropped: int) -> None:
        self._reports.take(items, dropped)

    def _on_adopted(self, worker: int, sequence: int, cut: int, cuts: list[dict[str, Any]]) -> None:
        self._adoption.adopted(worker, sequence, cut, cuts)

    def _on_metrics(self, worker: int, question: int, families: list[Any]) -> None:
        self._page.take(worker, question, families)

    def _ended(self, worker: int, asked_for: bool) -> None:
        self._states.ended(worker)
        self._switchboard.ended(worker)
        self._adoption.ended(worker)
        self._page.ended(worker)
        self._foundation.metrics.workers.set(len(self._children.serving))
        if not asked_for:
            self._foundation.metrics.worker_restarts.of().count += 1
            self._look_whether_ready()

    # What operators see.

    def _look_whether_ready(self) -> None:
        """Ready once all workers have been; from then on as long as one is."""
        serving = self._children.serving
        ready = any(self._states.ready(worker) for worker in serving)
        if ready and (self._was_ready or not self._children.missing):
            self._was_ready = True
            self._ready.met()
        else:
            unmet = {worker: self._states.unmet(worker) for worker in serving}
            reasons = [f"worker {worker}: {reason}" for worker, reason in unmet.items() if reason]
            self._ready.unmet("; ".join(reasons) or "waiting for the workers")

    def _remark_on_workers(self) -> str | None:
        missing = [] if self._lifecycle.draining else self._children.missing
        lines = [f"not serving: worker {', '.join(map(str, missing))}"] if missing else []
        lines += [f"worker {place} has said nothing for {seconds:.0f} s" for place, seconds in self._children.silent]
        return "; ".join(lines) or None


def settings_of_worker(settings: RelaySettings) -> RelaySettings:
    """Return the relay's settings with each worker's part of what is divided."""
    limits = settings.limits
    parts = {name: max(least, math.ceil(getattr(limits, name) / settings.workers)) for name, least in DIVIDED.items()}
    return settings.model_copy(update={"limits": limits.model_copy(update=parts)})


def _port_of(reserved: list[socket.socket]) -> int:
    port: int = reserved[0].getsockname()[1]
    return port
