"""Notices: a node is told that it is to be initialised again; what it is to run, it asks for itself, over mTLS.

Theory of operation. A bootstrapped node asks by itself. One that an operator wants to initialise again is sent an empty
call that says nothing but "ask", at once, when it comes back, and at each sweep until it has asked.
"""

import asyncio
import contextlib

from certs.scopes import INIT_NOTIFY
from certs.spiffe import control_plane_id
from control_plane.fleet.node_commands import CONTENT_READ_SECONDS, TOKEN_SECONDS, NodeAddress
from control_plane.fleet.reach import NodeCall, NodeReach, NotReachedError, UnansweredError
from control_plane.identity.issuance import Issuance
from control_plane.init_scripts.states import InitState
from control_plane.metrics import ControlPlaneMetrics
from control_plane.storage import node_inits
from control_plane.storage.database import Database
from control_plane.storage.errors import StorageError
from trunkline.client.errors import TrunklineError
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

NOTICE_PATH = "/v1/init/notice"
SWEEP_SECONDS = 15.0
NOTICE_SECONDS = 5.0
MOST_AT_ONCE = 32
LARGEST_ANSWER_BYTES = 64 * 1024


class InitNotices:
    """Tells nodes to ask for their init scripts."""

    def __init__(
        self,
        *,
        database: Database,
        reach: NodeReach,
        issuance: Issuance,
        name_suffix: str,
        metrics: ControlPlaneMetrics,
        clock: Clock,
        log: Logger,
    ) -> None:
        self._database = database
        self._reach = reach
        self._issuance = issuance
        self._name_suffix = name_suffix
        self._metrics = metrics
        self._clock = clock
        self._log = log
        self._subject = str(control_plane_id(issuance.trust_domain))
        self._slots = asyncio.Semaphore(MOST_AT_ONCE)
        self._changed = asyncio.Event()
        self._waiting: set[str] = set()

    async def run(self) -> None:
        """Tell nodes, for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS):
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self.tell_all()
            except StorageError as error:
                self._log.error("init.notices_failed", reason=str(error))

    def look_again(self) -> None:
        """Run a pass now: a node is to be initialised again."""
        self._changed.set()

    def returned(self, node_id: str) -> None:
        """Tell a node that has come back, if it is waited for."""
        if node_id in self._waiting:
            self._changed.set()

    async def tell_all(self) -> None:
        """Run one pass: tell every node that has not asked yet, and wait until all were called."""
        async with self._database.read() as session:
            rows = await node_inits.asked_for(session, InitState.PENDING.value)
            counts = await node_inits.count_by_state(session)
        for state in InitState:
            self._metrics.nodes_by_init.labels(state.value.lower()).set(counts.get(state.value, 0))
        self._waiting = {node.node_id for _, node, _ in rows}
        async with asyncio.TaskGroup() as calls:
            for workspace, node, _ in rows:
                calls.create_task(self._tell(NodeAddress(workspace, node)), name="trunkline-init-notice")

    async def _tell(self, address: NodeAddress) -> None:
        async with self._slots:
            try:
                answer = await self._reach.call(self._call(address))
                status = answer.response.status
                await answer.response.read(limit_bytes=LARGEST_ANSWER_BYTES, timeout_seconds=CONTENT_READ_SECONDS)
            except (NotReachedError, UnansweredError, TrunklineError) as error:
                self._log.info("init.notice_lost", node=address.node.node, reason=str(error))
                return
        if status != 204:
            self._log.warning("init.notice_refused", node=address.node.node, status=status)

    def _call(self, address: NodeAddress) -> NodeCall:
        token = self._issuance.call_token(
            address.workspace,
            address.node,
            subject=self._subject,
            scopes=[INIT_NOTIFY],
            lifetime_seconds=TOKEN_SECONDS,
            now=self._clock.now(),
        )
        return NodeCall(
            node_id=address.node.node_id,
            host=f"{address.node.node}.{address.workspace.workspace}.{self._name_suffix}",
            method="POST",
            path=NOTICE_PATH,
            token=token.text,
            purpose="init",
            timeout_seconds=NOTICE_SECONDS,
            body=b"{}",
        )
