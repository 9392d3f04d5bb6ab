"""Notices: nodes are told that there are other secrets for them; what they are, each asks for itself, over mTLS.

Theory of operation. A pass compares what every confirmed node is to hold with what it says it has taken. Those that
are behind are sent a notice through a relay: an empty call that says nothing but "ask". A pass runs at once when a
secret or grant changes, when a node comes back, and every `SWEEP_SECONDS` in any case, which finds what else moves a
node in or out of a grant (a cluster, a label). A node that stays behind is told again ever more seldom. Nodes ask by
themselves too, at their start and every few minutes, so that a lost notice is a delay and nothing else.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import select

from certs.scopes import SECRET_NOTIFY
from control_plane.fleet.node_commands import NodeAddress
from control_plane.fleet.notice_calls import NoticeCalls, NoticeKind, Passes
from control_plane.metrics import ControlPlaneMetrics
from control_plane.secrets.contents import Contents, wanted_contents
from control_plane.storage import nodes, secret_bundles, secret_grants
from control_plane.storage.database import Database
from control_plane.storage.records.nodes import Node
from control_plane.storage.secret_bundles import Taken
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

SECRET_NOTICE = NoticeKind("secrets", "/v1/secrets/notice", SECRET_NOTIFY)
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 600.0
NODES_AT_ONCE = 250


@dataclass(frozen=True, slots=True)
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
        calls: NoticeCalls,
        metrics: ControlPlaneMetrics,
        clock: Clock,
        log: Logger,
    ) -> None:
        self._database = database
        self._calls = calls
        self._metrics = metrics
        self._clock = clock
        self._passes = Passes(self.tell_all, SECRET_NOTICE.about, log)
        self._told: dict[str, _Told] = {}

    async def run(self) -> None:
        """Tell nodes, for ever."""
        await self._passes.run()

    def look_again(self) -> None:
        """Run a pass now: something has changed."""
        self._passes.ask()

    def returned(self, node_id: str) -> None:
        """Tell a node again that has come back, however often it was told before."""
        if self._told.pop(node_id, None) is not None:
            self._passes.ask()

    async def tell_all(self) -> None:
        """Run one pass: tell every node that is behind and due, and wait until all were called."""
        behind = await self._behind()
        self._metrics.secret_nodes_behind.set(len(behind))
        self._told = {node_id: told for node_id, told in self._told.items() if node_id in behind}
        due = {node_id: late for node_id, late in behind.items() if self._is_due(node_id, late[1])}
        for node_id, (_, fingerprint) in due.items():
            self._note_told(node_id, fingerprint)
        await self._calls.tell(address for address, _ in due.values())

    async def _behind(self) -> dict[str, tuple[NodeAddress, str]]:
        """Return the nodes that have not taken what they are to hold, with its fingerprint, by node id.

        A few hundred are looked at in a transaction, so that everybody else has a turn between them.
        """
        query = select(Node.node_id, Node.workspace_id).where(Node.confirm_time.is_not(None))
        async with self._database.read() as session:
            rows = (await session.execute(query.order_by(Node.workspace_id))).all()
            granting = set(await secret_grants.workspaces_with_grants(session))
        workspace_of = {row.node_id: row.workspace_id for row in rows}
        ids = list(workspace_of)
        found: dict[str, tuple[NodeAddress, str]] = {}
        for start in range(0, len(ids), NODES_AT_ONCE):
            some = {node_id: workspace_of[node_id] for node_id in ids[start : start + NODES_AT_ONCE]}
            found |= await self._behind_among(some, granting)
            await asyncio.sleep(0)
        return found

    async def _behind_among(
        self, workspace_of: Mapping[str, str], granting: Collection[str]
    ) -> dict[str, tuple[NodeAddress, str]]:
        """Return the same of some nodes; what they are to hold is read of all their workspaces together."""
        async with self._database.read() as session:
            taken = await secret_bundles.taken_by(session, workspace_of)
            concerned = {one: place for one, place in workspace_of.items() if place in granting or one in taken}
            wanted = await wanted_contents(session, concerned)
            fingerprints = {contents: contents.fingerprint() for contents in set(wanted.values())}
            late = {
                node_id: fingerprints[contents]
                for node_id, contents in wanted.items()
                if _is_behind(taken.get(node_id), contents, fingerprints[contents])
            }
            places = await nodes.places(session, list(late)) if late else []
        return {node.node_id: (NodeAddress(place, node), late[node.node_id]) for place, node in places}

    def _is_due(self, node_id: str, fingerprint: str) -> bool:
        told = self._told.get(node_id)
        return told is None or told.fingerprint != fingerprint or self._clock.monotonic() >= told.again_at

    def _note_told(self, node_id: str, fingerprint: str) -> None:
        """Write down that the node is told, ever more seldom of the same."""
        before = self._told.get(node_id)
        times = before.times if before is not None and before.fingerprint == fingerprint else 0
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(times, 16))
        self._told[node_id] = _Told(fingerprint, times + 1, self._clock.monotonic() + pause)


def _is_behind(taken: Taken | None, wanted: Contents, fingerprint: str) -> bool:
    if taken is None:
        return bool(wanted.entries)
    return taken.accepts and taken.adopted_fingerprint != fingerprint
