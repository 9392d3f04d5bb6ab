"""What has ended, looked at in the transaction that gives something out.

The certificate of a request is looked at when its head comes. Its body may come twenty seconds later, and then it may
have to wait for the database; what was revoked or locked meanwhile must be given nothing more.
"""

from collections.abc import Iterable

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.errors import ApiError, ErrorCode
from control_plane.storage import locks, revocations


async def refuse_ended(session: AsyncSession, named: Iterable[tuple[str, str]], now_ms: int) -> None:
    """Refuse whoever stands on something, named by kind and id, that has ended.

    Raises:
        ApiError: UNAUTHENTICATED: it was revoked. PERMISSION_DENIED: it is locked.
    """
    for kind, name in named:
        if await revocations.is_revoked(session, kind, name):
            raise ApiError(ErrorCode.UNAUTHENTICATED, f"this {kind} was revoked")
        if await locks.is_locked(session, kind, name, now_ms):
            raise ApiError(ErrorCode.PERMISSION_DENIED, f"this {kind} is locked")


def of_node(workspace_id: str, node_id: str, serial: str) -> list[tuple[str, str]]:
    """Return what a node stands on that has shown the certificate with this serial number."""
    return [("certificate", serial), ("node", node_id), ("workspace", workspace_id)]
