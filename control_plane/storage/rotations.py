"""Rotations: one row a kind, changed by compare-and-set only."""

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import CursorResult, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.records.signers import Rotation


def begin(session: AsyncSession, kind: str, incumbent_id: str, *, by: str, gate_sequence: int, now_ms: int) -> None:
    """Record the first signer of a kind."""
    session.add(
        Rotation(
            kind=kind,
            version=1,
            phase="steady",
            incumbent_id=incumbent_id,
            candidate_id=None,
            step=None,
            step_time=now_ms,
            stepped_by=by,
            gate_sequence=gate_sequence,
        )
    )


async def find(session: AsyncSession, kind: str) -> Rotation | None:
    """Return where the rotation of a kind stands, or None before there is a signer."""
    query = select(Rotation).where(Rotation.kind == kind).execution_options(populate_existing=True)
    return (await session.scalars(query)).one_or_none()


async def versions(session: AsyncSession) -> dict[str, int]:
    """Return the version of each kind."""
    rows = (await session.execute(select(Rotation.kind, Rotation.version))).all()
    return {row.kind: row.version for row in rows}


async def advance(session: AsyncSession, kind: str, version: int, changes: Mapping[str, Any]) -> bool:
    """Change the row if its version is still this one, and count the version up; returns whether it was changed."""
    statement = update(Rotation).where(Rotation.kind == kind, Rotation.version == version)
    result = await session.execute(statement.values(version=version + 1, **changes))
    return cast(CursorResult[Any], result).rowcount == 1
