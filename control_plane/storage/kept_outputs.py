"""Which outputs are kept: those that are wanted, those that are on the disk, and what is let go of them."""

from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.commands import CommandKey
from control_plane.storage.records.commands import Command, KeptOutput

WANTED = "wanted"
KEPT = "kept"
GONE = "gone"
BATCH = 500


async def find(session: AsyncSession, key: CommandKey) -> KeptOutput | None:
    """Return what is known of the keeping of a command's output."""
    return await session.get(KeptOutput, (key.workspace_id, key.command_id))


def want(session: AsyncSession, command: Command, fetch_before: int) -> None:
    """Note that the output of a command that has ended is to be fetched, until `fetch_before` at the latest."""
    session.add(
        KeptOutput(
            workspace_id=command.workspace_id,
            command_id=command.command_id,
            node_id=command.node_id,
            state=WANTED,
            fetch_before=fetch_before,
            stdout_bytes=command.stdout_bytes,
            stdout_head_bytes=0,
            stdout_tail_bytes=0,
            stderr_bytes=command.stderr_bytes,
            stderr_head_bytes=0,
            stderr_tail_bytes=0,
            kept_bytes=0,
            keep_time=None,
            times=None,
        )
    )


async def wanted(session: AsyncSession) -> Sequence[tuple[CommandKey, str]]:
    """Return the commands whose output is yet to be fetched, with their nodes' ids."""
    query = select(KeptOutput.workspace_id, KeptOutput.command_id, KeptOutput.node_id)
    rows = (await session.execute(query.where(KeptOutput.state == WANTED))).all()
    return [(CommandKey(workspace_id, command_id), node_id) for workspace_id, command_id, node_id in rows]


async def kept_keys(session: AsyncSession) -> set[CommandKey]:
    """Return the commands of which something may be on the disk."""
    query = select(KeptOutput.workspace_id, KeptOutput.command_id).where(KeptOutput.state == KEPT)
    return {CommandKey(*row) for row in (await session.execute(query)).all()}


async def total_bytes(session: AsyncSession) -> int:
    """Return how much is kept in all."""
    return int((await session.scalars(select(func.coalesce(func.sum(KeptOutput.kept_bytes), 0)))).one())


async def remove_old(session: AsyncSession, *, before_ms: int, excess_bytes: int) -> list[CommandKey]:
    """Let go of what was kept before this time, and of the oldest of what is too much.

    At most `BATCH` at once of each; returns whose files are to be removed, once the transaction is done.
    """
    rows = [*(await session.scalars(select(KeptOutput).where(KeptOutput.keep_time < before_ms).limit(BATCH))).all()]
    excess_bytes -= sum(row.kept_bytes for row in rows)
    if excess_bytes > 0:
        oldest = select(KeptOutput).where(KeptOutput.state == KEPT).order_by(KeptOutput.keep_time).limit(BATCH)
        for row in (await session.scalars(oldest)).all():
            if excess_bytes <= 0:
                break
            excess_bytes -= row.kept_bytes
            rows.append(row)
    keys = {CommandKey(row.workspace_id, row.command_id) for row in rows}
    for key in keys:
        await session.execute(
            delete(KeptOutput).where(
                KeptOutput.workspace_id == key.workspace_id, KeptOutput.command_id == key.command_id
            )
        )
    return list(keys)
