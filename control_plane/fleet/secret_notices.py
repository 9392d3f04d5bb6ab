"""Notices: nodes are told that there are other secrets for them; what they are, each asks for itself, over mTLS.

Theory of operation. A pass compares what every confirmed node is to hold with what it says it has taken. Those that
are behind are sent a notice through a relay: an empty call that says nothing but "ask". A pass runs at once when a
secret or grant changes, when a node comes back, and every `SWEEP_SECONDS` in any case, which finds what else moves a
node in or out of a grant (a cluster, a label). A node that stays behind is told again ever more seldom. Nodes ask by
themselves too, at their start and every few minutes, so that a lost notice is a delay and nothing else.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from certs.scopes import SECRET_NOTIFY
from control_plane.fleet.node_commands import NodeAddress
from control_plane.fleet.notice_calls import NoticeCalls, NoticeKind, Passes
from control_plane.metrics import ControlPlaneMetrics
from control_plane.secrets.behind import nodes_behind
from control_plane.storage import nodes
from control_plane.storage.database import Database
from control_plane.storage.errors import StorageError
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
        self._log = log
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
        async with self._database.read() as session:
            behind = await nodes_behind(session)
        self._metrics.secret_nodes_behind.set(len(behind))
        self._told = {node_id: told for node_id, told in self._told.items() if node_id in behind}
        due = [node_id for node_id, fingerprint in behind.items() if self._is_due(node_id, fingerprint)]
        await self._calls.tell(self._told_now(due, behind))

    async def _told_now(self, node_ids: Sequence[str], behind: Mapping[str, str]) -> AsyncIterator[NodeAddress]:
        """Yield where these nodes are, and note that they are told; some are read at a time, until that fails."""
        for start in range(0, len(node_ids), NODES_AT_ONCE):
            some = node_ids[start : start + NODES_AT_ONCE]
            try:
                async with self._database.read() as session:
                    places = await nodes.places(session, some)
            except StorageError as error:
                self._log.error("secrets.notices_failed", reason=str(error))
                return
            for node_id in some:
                self._note_told(node_id, behind[node_id])
            for place in places:
                yield NodeAddress(*place)

    def _is_due(self, node_id: str, fingerprint: str) -> bool:
        told = self._told.get(node_id)
        return told is None or told.fingerprint != fingerprint or self._clock.monotonic() >= told.again_at

    def _note_told(self, node_id: str, fingerprint: str) -> None:
        """Write down that the node is told, ever more seldom of the same."""
        before = self._told.get(node_id)
        times = before.times if before is not None and before.fingerprint == fingerprint else 0
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(times, 16))
        self._told[node_id] = _Told(fingerprint, times + 1, self._clock.monotonic() + pause)
