"""Notices to nodes that an operator wants to initialise again; a node that has just bootstrapped asks by itself.

A node is told at once, when it comes back, and at each pass until it has asked.
"""

from certs.scopes import INIT_NOTIFY
from control_plane.fleet.node_commands import NodeAddress
from control_plane.fleet.notice_calls import NoticeCalls, NoticeKind, Passes
from control_plane.init_scripts.states import InitState
from control_plane.metrics import ControlPlaneMetrics
from control_plane.storage import node_inits
from control_plane.storage.database import Database
from trunkline.runtime.logs import Logger

INIT_NOTICE = NoticeKind("init", "/v1/init/notice", INIT_NOTIFY)


class InitNotices:
    """Tells nodes to ask for their init scripts."""

    def __init__(self, *, database: Database, calls: NoticeCalls, metrics: ControlPlaneMetrics, log: Logger) -> None:
        self._database = database
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
            rows = await node_inits.asked_for(session, InitState.PENDING.value)
            counts = await node_inits.count_by_state(session)
        for state in InitState:
            self._metrics.nodes_by_init.labels(state.value.lower()).set(counts.get(state.value, 0))
        self._waiting = {node.node_id for _, node, _ in rows}
        await self._calls.tell([NodeAddress(workspace, node) for workspace, node, _ in rows])
