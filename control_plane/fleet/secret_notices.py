"""Notices: nodes are told that there are other secrets for them; what they are, each asks for itself, over mTLS.

Theory of operation. A pass compares what every confirmed node is to hold with what it says it has taken. Those that
are behind are sent a notice through a relay: an empty call that says nothing but "ask". A pass runs at once when a
secret or grant changes, when a node comes back, and every `SWEEP_SECONDS` in any case, which finds what else moves a
node in or out of a grant (a cluster, a label). A node that stays behind is told again ever more seldom. Nodes ask by
themselves too, at their start and every few minutes, so that a lost notice is a delay and nothing else.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select

from certs.scopes import SECRET_NOTIFY
from certs.spiffe import control_plane_id
from control_plane.fleet.node_commands import CONTENT_READ_SECONDS, TOKEN_SECONDS, NodeAddress
from control_plane.fleet.reach import NodeCall, NodeReach, NotReachedError, UnansweredError
from control_plane.identity.issuance import Issuance
from control_plane.metrics import ControlPlaneMetrics
from control_plane.secrets.contents import Contents, wanted_contents
from control_plane.storage import secret_bundles, secret_grants
from control_plane.storage.database import Database
from control_plane.storage.errors import StorageError
from control_plane.storage.records import Node, Workspace
from control_plane.storage.secret_records import SecretBundle
from trunkline.client.errors import TrunklineError
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

NOTICE_PATH = "/v1/secrets/notice"
SWEEP_SECONDS = 15.0
NOTICE_SECONDS = 5.0
MOST_AT_ONCE = 32
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 600.0
LARGEST_ANSWER_BYTES = 64 * 1024


@dataclass(slots=True)
class _Told:
    """A node that was told what it has not taken yet; `again_at` is monotonic seconds."""

    fingerprint: str
    times: int
    again_at: float


class SecretNotices:
    """Tells nodes to ask for their secrets."""

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
        self._told: dict[str, _Told] = {}
        self._changed = asyncio.Event()

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
                self._log.error("secrets.notices_failed", reason=str(error))

    def look_again(self) -> None:
        """Run a pass now: something has changed."""
        self._changed.set()

    def returned(self, node_id: str) -> None:
        """Tell a node again that has come back, however often it was told before."""
        if self._told.pop(node_id, None) is not None:
            self._changed.set()

    async def tell_all(self) -> None:
        """Run one pass: tell every node that is behind and due, and wait until all were called."""
        behind = await self._behind()
        self._metrics.secret_nodes_behind.set(len(behind))
        self._told = {node_id: told for node_id, told in self._told.items() if node_id in behind}
        due = [address for address, fingerprint in behind.values() if self._is_due(address.node.node_id, fingerprint)]
        async with asyncio.TaskGroup() as calls:
            for address in due:
                calls.create_task(self._tell(address), name="trunkline-secret-notice")

    async def _behind(self) -> dict[str, tuple[NodeAddress, str]]:
        """Return the nodes that have not taken what they are to hold, with its fingerprint, by node id."""
        query = select(Workspace, Node).join(Node, Node.workspace_id == Workspace.workspace_id)
        async with self._database.read() as session:
            rows = (await session.execute(query.where(Node.confirm_time.is_not(None)))).all()
            addresses = {node.node_id: NodeAddress(workspace, node) for workspace, node in rows}
            bundles = await secret_bundles.of_nodes(session, addresses)
            granting = set(await secret_grants.workspaces_with_grants(session))
            granting |= {addresses[node_id].node.workspace_id for node_id in bundles}
            wanted: dict[str, Contents] = {}
            for workspace_id in granting:
                wanted |= await wanted_contents(session, workspace_id, in_workspace(addresses.values(), workspace_id))
        return {
            node_id: (addresses[node_id], contents.fingerprint())
            for node_id, contents in wanted.items()
            if _is_behind(bundles.get(node_id), contents)
        }

    def _is_due(self, node_id: str, fingerprint: str) -> bool:
        now = self._clock.monotonic()
        told = self._told.get(node_id)
        if told is None or told.fingerprint != fingerprint:
            told = self._told[node_id] = _Told(fingerprint, 0, now)
        if now < told.again_at:
            return False
        told.again_at = now + min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(told.times, 16))
        told.times += 1
        return True

    async def _tell(self, address: NodeAddress) -> None:
        async with self._slots:
            try:
                answer = await self._reach.call(self._call(address))
                status = answer.response.status
                await answer.response.read(limit_bytes=LARGEST_ANSWER_BYTES, timeout_seconds=CONTENT_READ_SECONDS)
            except (NotReachedError, UnansweredError, TrunklineError) as error:
                self._log.info("secrets.notice_lost", node=address.node.node, reason=str(error))
                return
        if status != 204:
            self._log.warning("secrets.notice_refused", node=address.node.node, status=status)

    def _call(self, address: NodeAddress) -> NodeCall:
        token = self._issuance.call_token(
            address.workspace,
            address.node,
            subject=self._subject,
            scopes=[SECRET_NOTIFY],
            lifetime_seconds=TOKEN_SECONDS,
            now=self._clock.now(),
        )
        return NodeCall(
            node_id=address.node.node_id,
            host=f"{address.node.node}.{address.workspace.workspace}.{self._name_suffix}",
            method="POST",
            path=NOTICE_PATH,
            token=token.text,
            purpose="secrets",
            timeout_seconds=NOTICE_SECONDS,
            body=b"{}",
        )


def in_workspace(addresses: Iterable[NodeAddress], workspace_id: str) -> list[str]:
    """Return the ids of those nodes that are in the workspace."""
    return [address.node.node_id for address in addresses if address.node.workspace_id == workspace_id]


def _is_behind(bundle: SecretBundle | None, wanted: Contents) -> bool:
    if bundle is None:
        return bool(wanted.entries)
    return bundle.accepts and bundle.adopted_fingerprint != wanted.fingerprint()
