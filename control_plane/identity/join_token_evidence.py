"""Join tokens as evidence: single-use or for some uses, until they expire, perhaps bound to a node's name."""

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.errors import ApiError, ErrorCode, conflict
from control_plane.identity.evidence import Admission, CheckedEvidence
from control_plane.storage import join_tokens
from control_plane.storage.records import Workspace


class JoinTokenVerifier:
    """Admits whoever holds a join token that is not used up."""

    async def check(self, token: str, now: float) -> CheckedEvidence:
        """A join token is looked up where it is used up: nothing is known of it before."""
        return CheckedEvidence(token=token, credential=token)

    async def settle(self, session: AsyncSession, checked: CheckedEvidence, now: float) -> Admission:
        """Use the token once."""
        record = await join_tokens.find_presented(session, checked.token)
        if record is None or record.expire_time <= now * 1000:
            raise ApiError(ErrorCode.UNAUTHENTICATED, "this join token is unknown or has expired: ask for a new one")
        if record.used >= record.uses:
            raise conflict("this join token was used by another machine: ask for a new one")
        workspace = await session.get(Workspace, record.workspace_id)
        if workspace is None:
            raise ApiError(ErrorCode.UNAUTHENTICATED, "the workspace of this join token was deleted")
        record.used += 1
        return Admission(workspace, record.node_name, dict(record.labels), record.cluster_id)
