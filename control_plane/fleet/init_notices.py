"""Notices to nodes that an operator wants to initialise again; a node that has just bootstrapped asks by itself.

A node is told at once, when it comes back, and at each pass until it has asked. One that is long silent about its
initialisation is told too, since what it said may be forgotten: of whoever has nothing to ask for it costs a call.
"""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from certs.scopes import INIT_NOTIFY
from control_plane.fleet.node_commands import NodeAddress
from control_plane.fleet.notice_calls import NoticeCalls, NoticeKind, Passes, one_by_one
from control_plane.init_scripts.states import InitState
from control_plane.metrics import ControlPlaneMetrics
from control_plane.storage import node_inits
from control_plane.storage.database import Database
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.nodes import Node
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

SILENT_SECONDS = 600.0
INIT_NOTICE = NoticeKind("init", "/v1/init/notice", INIT_NOTIFY)


class InitNotices:
    """Tells nodes to ask for their init scripts."""

    def __init__(
        self, *, database: Database, calls: NoticeCalls, metrics: ControlPlaneMetrics, clock: Clock, log: Logger
    ) -> None:
        self._database = database
        self._clock = clock
        self._look_at = float("-inf")
        self._calls = calls
        self._metrics = metrics
        self._passes = Passes(self.tell_all, INIT_NOTICE.about, log)
        self._waiting: set[str] = set()

    async def run(self) -> None:
        """Tell nodes, for ever."""
        await self._passes.run()

    def look_again(self) -> None:
        """Run a pass now: a node is to be initialised again."""
        self._passes.ask()

    def returned(self, node_id: str) -> None:
        """Tell a node that has come back, if it is waited for."""
        if node_id in self._waiting:
            self._passes.ask()

    async def tell_all(self) -> None:
        """Run one pass: tell every node that has not asked yet, and wait until all were called."""
        async with self._database.read() as session:
            rows = [*await node_inits.asked_for(session), *await self._silent(session)]
            counts = await node_inits.count_by_state(session)
        for state in InitState:
            self._metrics.nodes_by_init.labels(state.value.lower()).set(counts.get(state.value, 0))
        addresses = {node.node_id: NodeAddress(workspace, node) for workspace, node in rows}
        self._waiting = set(addresses)
        await self._calls.tell(one_by_one(addresses.values()))

    async def _silent(self, session: AsyncSession) -> Sequence[tuple[Workspace, Node]]:
        """Return who has been silent for long; nobody, but now and then."""
        if self._clock.monotonic() < self._look_at:
            return []
        self._look_at = self._clock.monotonic() + SILENT_SECONDS
        return await node_inits.silent(session, int((self._clock.now() - SILENT_SECONDS) * 1000))
