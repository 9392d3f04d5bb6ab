"""The health monitor: asks every node through the relay how it is, and keeps what it learns.

Each node is asked at its own time, spread over the interval, and then once an interval with jitter. While something
changes (a new node, a failure, a recovery) it is asked sooner, so that a state is settled within seconds. Verdicts are
in memory for the metrics page and written to the database once a second, all together.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from control_plane.fleet.health_check import ON_PROBATION, Check, check_node
from control_plane.fleet.health_record import NODES_AT_ONCE, Finding, HealthRecord
from control_plane.fleet.health_states import NodeState, Standing, observe
from control_plane.fleet.node_commands import NodeAddress, NodeCommands
from control_plane.metrics import NodeStanding
from control_plane.settings import HealthSettings
from control_plane.storage.beginning import begun
from control_plane.storage.errors import StorageError
from control_plane.storage.records.nodes import Node
from control_plane.timetable import Timetable
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

FLUSH_SECONDS = 1.0
SHORTEST_FLUSH_SECONDS = 0.05
SETTLING_SECONDS = 1.0
MOST_UNSETTLED = 30
"""So many checks in a row may come soon after the last: a node that never settles is asked as others are."""
NEWCOMER_PAUSE_SECONDS = 0.1
FIRST_CHECKS_PER_SECOND = 50.0
LOOK_SECONDS = 2.0
NEWCOMER_SECONDS = 60.0


@dataclass(slots=True)
class _Watched:
    """One node under watch.

    `since` is when it joined, in monotonic seconds; `unsettled` counts the checks after which something was about to
    change, less those after which nothing was.
    """

    address: NodeAddress
    standing: Standing
    since: float
    up: bool = False
    seen_time: float | None = None
    rtt_seconds: float | None = None
    unsettled: int = 0


class HealthMonitor:
    """Watches all nodes."""

    def __init__(
        self,
        *,
        record: HealthRecord,
        nodes: NodeCommands,
        settings: HealthSettings,
        on_return: Callable[[str], None],
        clock: Clock,
        rng: random.Random,
        log: Logger,
    ) -> None:
        self._record = record
        self._nodes = nodes
        self._settings = settings
        self._on_return = on_return
        self._clock = clock
        self._rng = rng
        self._log = log
        self._slots = asyncio.Semaphore(settings.most_at_once)
        self._watched: dict[str, _Watched] = {}
        self._look = asyncio.Event()
        self._timetable = Timetable[str](clock)
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Watch for ever."""
        await begun(self._look_for_nodes, self._log, "health.nodes_not_looked_for")
        async with asyncio.TaskGroup() as checks:
            checks.create_task(self._keep_looking(), name="trunkline-health-look")
            checks.create_task(self._keep_writing(), name="trunkline-health-write")
            while True:
                watched = self._watched.get(await self._timetable.next())
                if watched is not None:  # else it was deleted meanwhile
                    await self._slots.acquire()
                    checks.create_task(self._check(watched), name="trunkline-health-check")

    def look_again(self) -> None:
        """Look for new nodes now instead of a little later."""
        self._look.set()

    def standings(self) -> Iterable[NodeStanding]:
        """Return what the metrics page says about each node."""
        return [
            NodeStanding(
                workspace=watched.address.workspace.workspace,
                node=watched.address.node.node,
                up=watched.up,
                state=watched.standing.state.value,
                seen_time=watched.seen_time,
                rtt_seconds=watched.rtt_seconds,
            )
            for watched in self._watched.values()
        ]

    async def _check(self, watched: _Watched) -> None:
        pause_seconds = self._settings.interval_seconds
        try:
            check = await check_node(self._nodes, watched.address, self._settings.timeout_seconds, self._clock)
            pause_seconds = self._take(watched, check)
        except StorageError as error:
            self._log.error("node.not_checked", node=watched.address.node.node, reason=str(error))
        except Exception as error:  # noqa: BLE001 - a fault of ours with one node must not stop the watch of all others
            self._log.error("node.check_failed", node=watched.address.node.node, exc_info=error)
        finally:
            self._timetable.set(watched.address.node.node_id, pause_seconds)
            self._slots.release()

    def _take(self, watched: _Watched, check: Check) -> float:
        """Take in what a check found; returns after how many seconds the next one is due."""
        before = watched.standing
        watched.standing = observe(before, check.result)
        if watched.standing.state is NodeState.DEGRADED and check.reason is None:
            check = replace(check, reason=ON_PROBATION)
        watched.up = check.result.answered
        watched.rtt_seconds = check.rtt_seconds
        if check.result.answered:
            watched.seen_time = self._clock.now()
        changed = watched.standing.state is not before.state
        if changed:
            self._changed.set()
            self._log.info(
                "node.state",
                node=watched.address.node.node,
                workspace=watched.address.workspace.workspace,
                state=watched.standing.state.value,
                reason=check.reason,
            )
        if check.result.answered and before.failures > 0:
            self._on_return(watched.address.node.node_id)
        self._record.note(watched.address.node.node_id, Finding(watched.standing.state, check, changed))
        return self._pause_seconds(watched, before, check)

    def _pause_seconds(self, watched: _Watched, before: Standing, check: Check) -> float:
        interval = self._settings.interval_seconds
        fresh = self._clock.monotonic() - watched.since < NEWCOMER_SECONDS
        if watched.standing.state is NodeState.PENDING and fresh:
            # Its link is about to come: ask again soon, then less and less often.
            interval = min(NEWCOMER_PAUSE_SECONDS * 2.0 ** min(before.failures, 10), SETTLING_SECONDS, interval)
        elif _is_settled(before, watched.standing, check):
            watched.unsettled = max(0, watched.unsettled - 1)
        elif watched.unsettled < MOST_UNSETTLED:
            watched.unsettled += 1
            interval = min(SETTLING_SECONDS, interval)
        return interval * self._rng.uniform(0.8, 1.2)

    async def _keep_looking(self) -> None:
        while True:
            await _wait_for(self._look, LOOK_SECONDS)
            with contextlib.suppress(StorageError):
                await self._look_for_nodes()

    async def _look_for_nodes(self) -> None:
        changes = await self._record.changes(self._watched.keys())
        for gone in changes.gone:
            del self._watched[gone]
        spread = min(self._settings.interval_seconds, len(changes.come) / FIRST_CHECKS_PER_SECOND)
        for start in range(0, len(changes.come), NODES_AT_ONCE):
            for address in await self._record.addresses(changes.come[start : start + NODES_AT_ONCE]):
                self._watch(address, spread)

    def _watch(self, address: NodeAddress, spread_seconds: float) -> None:
        """Watch a node from now on; it is asked within so many seconds."""
        node = address.node
        standing = Standing(NodeState(node.state))
        watched = _Watched(address, standing, since=self._clock.monotonic() - self._age_seconds(node))
        watched.seen_time = node.last_seen_time / 1000 if node.last_seen_time is not None else None
        self._watched[node.node_id] = watched
        self._timetable.set(node.node_id, self._rng.uniform(0.0, spread_seconds))

    def _age_seconds(self, node: Node) -> float:
        """Return how long ago a node joined, by the wall clock; 0 where that is yet to come."""
        joined_ms = max(node.creation_time, node.confirm_time or 0)
        return max(0.0, self._clock.now() - joined_ms / 1000)

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(SHORTEST_FLUSH_SECONDS)
            await _wait_for(self._changed, FLUSH_SECONDS - SHORTEST_FLUSH_SECONDS)
            try:
                await self._record.flush()
            except StorageError as error:
                self._log.error("health.not_recorded", reason=str(error))
            except Exception as error:  # noqa: BLE001 - what cannot be written of one node must not stop the watch
                self._log.error("health.flush_failed", exc_info=error)


def _is_settled(before: Standing, after: Standing, check: Check) -> bool:
    """Tell whether nothing is about to change; a node that never answered is no more than one that went."""
    silent = after.state in (NodeState.OFFLINE, NodeState.PENDING)
    return after.state is before.state and (check.result.answered or silent)


async def _wait_for(event: asyncio.Event, timeout_seconds: float | None) -> None:
    """Wait until the event is set, or the time is over; it is clear again afterwards."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_seconds):
            await event.wait()
    event.clear()
