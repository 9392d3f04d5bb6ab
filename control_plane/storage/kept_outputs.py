"""Which outputs are kept: those that are wanted, those that are on the disk, and what is let go of them."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.commands import CommandKey
from control_plane.storage.records.commands import Command, KeptOutput

WANTED = "wanted"
KEPT = "kept"
GONE = "gone"
BATCH = 500


@dataclass(frozen=True, slots=True)
class Removed:
    """What one transaction has let go of: whose files are to be removed once it is done, and whether more is left."""

    outputs: Sequence[CommandKey]
    size_bytes: int
    more: bool


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


async def kept_among(session: AsyncSession, workspace_id: str, command_ids: Collection[str]) -> set[str]:
    """Return those of the commands of which something may be on the disk."""
    query = select(KeptOutput.command_id).where(
        KeptOutput.workspace_id == workspace_id, KeptOutput.command_id.in_(command_ids), KeptOutput.state == KEPT
    )
    return set((await session.scalars(query)).all())


async def total_bytes(session: AsyncSession) -> int:
    """Return how much is kept in all; an index has the sizes, however long the rows are."""
    total = select(func.coalesce(func.sum(KeptOutput.kept_bytes), 0)).where(KeptOutput.state == KEPT)
    return int((await session.scalars(total)).one())


async def remove_old(session: AsyncSession, *, before_ms: int, excess_bytes: int) -> Removed:
    """Let go of what was kept before this time, and of the oldest of what is too much; of `BATCH` at most."""
    columns = (KeptOutput.workspace_id, KeptOutput.command_id, KeptOutput.keep_time, KeptOutput.kept_bytes)
    oldest = select(*columns).where(KeptOutput.state == KEPT).order_by(KeptOutput.keep_time).limit(BATCH)
    ids: defaultdict[str, list[str]] = defaultdict(list)
    size_bytes = count = 0
    for workspace_id, command_id, keep_time, kept_bytes in (await session.execute(oldest)).all():
        if (keep_time or 0) >= before_ms and size_bytes >= excess_bytes:
            break
        ids[workspace_id].append(command_id)
        size_bytes += kept_bytes
        count += 1
    for workspace_id, some in ids.items():
        of_these = KeptOutput.workspace_id == workspace_id, KeptOutput.command_id.in_(some)
        await session.execute(delete(KeptOutput).where(*of_these))
    outputs = [CommandKey(workspace_id, command_id) for workspace_id, some in ids.items() for command_id in some]
    return Removed(outputs, size_bytes, more=count >= BATCH)
