"""Late renewals: a node whose certificate has expired gets the next one, by the key of the one it had.

What is asked of every such request is in `late_requests`. Of nodes, those that a platform attests are sent there.
"""

from sqlalchemy.ext.asyncio import AsyncSession

from certs.late_renewal import LateRenewalRequest
from control_plane.identity.issuance import Issuance
from control_plane.identity.late_requests import LateRequests, refuse_ended, refused
from control_plane.identity.pairs import Pair, PairRequest, issue_pair
from control_plane.storage.audit import Actor, Happening, append
from control_plane.storage.database import Database
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.certificates import Certificate
from control_plane.storage.records.nodes import Node
from trunkline.runtime.clock import Clock

METHOD = "late_renewal"


class LateRenewals:
    """Decides about nodes that were off for long."""

    def __init__(self, *, database: Database, requests: LateRequests, issuance: Issuance, clock: Clock) -> None:
        self._database = database
        self._requests = requests
        self._issuance = issuance
        self._clock = clock

    async def decide(self, text: str, csr: str, agent_version: str, actor: Actor) -> Pair:
        """Issue the node's next leaf and listen token, or refuse.

        Raises:
            ApiError: why not.
        """
        with self._requests.counted(METHOD, "node.late_renewal", actor):
            return await self._decide(text, csr, agent_version, actor)

    async def _decide(self, text: str, csr: str, agent_version: str, actor: Actor) -> Pair:
        request = await self._requests.read(text, csr, "node")
        if not request.sealing_key:
            raise refused("the request's sealing_key is missing")
        now = self._clock.now()
        async with self._database.write() as session:
            workspace, node, certificate = await self._admitted(session, request, now)
            asked = PairRequest(csr, request.sealing_key, METHOD)
            pair, is_new = await issue_pair(session, self._issuance, workspace, node, asked, now)
            node.agent_version = agent_version
            if is_new:
                append(session, now, actor, _granted(node, certificate, pair))
        return pair

    async def _admitted(
        self, session: AsyncSession, request: LateRenewalRequest, now: float
    ) -> tuple[Workspace, Node, Certificate]:
        certificate = await self._requests.use(session, request, now)
        node = await session.get(Node, certificate.subject_id)
        workspace = None if node is None else await session.get(Workspace, node.workspace_id)
        if node is None or workspace is None or node.confirm_time is None:
            raise refused("this node was deleted")
        if node.attested_as is not None:
            raise refused("the platform attests this node: bootstrap with its evidence")
        for kind, name in (("node", node.node_id), ("workspace", node.workspace_id)):
            await refuse_ended(session, kind, name, int(now * 1000))
        return workspace, node, certificate


def _granted(node: Node, certificate: Certificate, pair: Pair) -> Happening:
    details = {"node_id": node.node_id, "by_certificate": certificate.serial, "certificate": pair.serial}
    return Happening("node.late_renewal", resource=node.node, workspace_id=node.workspace_id, details=details)
