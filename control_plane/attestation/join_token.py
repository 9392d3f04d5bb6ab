"""Join tokens as evidence: single-use or for some uses, until they expire, perhaps bound to a node's name."""

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.attestation.evidence import Evidence, HeldJoinToken
from control_plane.attestation.refusals import AttestationRefused, Outcome, bad_evidence
from control_plane.errors import ErrorCode
from control_plane.storage import join_tokens
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.joining import JoinToken

LONGEST_TOKEN_BYTES = 256


class JoinTokenProvider:
    """Takes note of who holds a token; `use_join_token` decides."""

    async def verify(self, evidence: Evidence, nonce: str, now: float) -> HeldJoinToken:
        """Return the token; it is looked up where it is used up, and nothing is known of it before."""
        if not 0 < len(evidence.token) <= LONGEST_TOKEN_BYTES or evidence.document or evidence.caller is not None:
            raise bad_evidence("this is no join token")
        return HeldJoinToken(evidence.token)


async def use_join_token(session: AsyncSession, held: HeldJoinToken, now: float) -> tuple[JoinToken, Workspace]:
    """Use the token once, in this transaction.

    Raises:
        AttestationRefused: it is unknown, expired, used up, or its workspace was deleted.
    """
    record = await join_tokens.find_presented(session, held.token)
    if record is None or record.expire_time <= now * 1000:
        raise bad_evidence("this join token is unknown or has expired: ask for a new one")
    if record.used >= record.uses:
        raise AttestationRefused(
            Outcome.BAD_EVIDENCE,
            ErrorCode.RESOURCE_CONFLICT,
            "this join token was used by another machine: ask for a new one",
        )
    workspace = await session.get(Workspace, record.workspace_id)
    if workspace is None:
        raise bad_evidence("the workspace of this join token was deleted")
    record.used += 1
    return record, workspace
