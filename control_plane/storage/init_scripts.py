"""Init scripts in the database: finding, listing, and keeping the positions of an owner's scripts without gaps.

Lists come without the scripts' content, which would make those of many clusters large.
"""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from control_plane.names import is_id
from control_plane.storage.records.init_scripts import InitScript
from control_plane.storage.records.nodes import Cluster, ClusterMember


async def of_owner(session: AsyncSession, owner_id: str) -> Sequence[InitScript]:
    """Return the scripts of a workspace (the global ones) or of a cluster in their order, without their content."""
    return (await of_owners(session, [owner_id]))[owner_id]


async def of_owners(session: AsyncSession, owner_ids: Sequence[str]) -> dict[str, list[InitScript]]:
    """Return the scripts of each owner in their order, without their content."""
    found: dict[str, list[InitScript]] = {owner_id: [] for owner_id in owner_ids}
    query = select(InitScript).where(InitScript.owner_id.in_(owner_ids)).order_by(InitScript.position)
    for script in (await session.scalars(query.options(defer(InitScript.content, raiseload=True)))).all():
        found[script.owner_id].append(script)
    return found


async def to_run(session: AsyncSession, owner_id: str) -> Sequence[InitScript]:
    """Return the owner's scripts that are enabled, in their order, with their content."""
    query = select(InitScript).where(InitScript.owner_id == owner_id, InitScript.enabled).order_by(InitScript.position)
    return (await session.scalars(query)).all()


async def find(session: AsyncSession, owner_id: str, address: str) -> InitScript | None:
    """Return the owner's script with this id or name, with its content."""
    column = InitScript.script_id if is_id(address) else InitScript.name
    query = select(InitScript).where(InitScript.owner_id == owner_id, column == address)
    return (await session.scalars(query)).one_or_none()


def place(others: Sequence[InitScript], script: InitScript, position: int | None) -> None:
    """Put a script among the others of its owner: at the position, or at the end; those behind it move by one."""
    at = len(others) if position is None else min(position, len(others))
    close_gaps([*others[:at], script, *others[at:]])


def close_gaps(scripts: Sequence[InitScript]) -> None:
    """Number the scripts by their order."""
    for position, script in enumerate(scripts):
        if script.position != position:
            script.position = position


async def clusters_of_node(session: AsyncSession, node_id: str) -> Sequence[Cluster]:
    """Return the clusters that a node is in, by name."""
    query = (
        select(Cluster)
        .join(ClusterMember, ClusterMember.cluster_id == Cluster.cluster_id)
        .where(ClusterMember.node_id == node_id)
        .order_by(Cluster.cluster)
    )
    return (await session.scalars(query)).all()
