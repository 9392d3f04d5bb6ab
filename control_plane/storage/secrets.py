"""Workspace secrets in the database: scopes, sealed values, wrapped data keys. Nothing is opened here."""

from collections import defaultdict
from collections.abc import Collection, Sequence

from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.records.secrets import SecretDataKey, SecretScope, WorkspaceSecret


async def find_scope(session: AsyncSession, workspace_id: str, scope: str) -> SecretScope | None:
    """Return the scope."""
    return await session.get(SecretScope, (workspace_id, scope))


def add_scope(session: AsyncSession, workspace_id: str, scope: str, now_ms: int, created_by: str) -> SecretScope:
    """Create an empty scope that is granted to nobody."""
    added = SecretScope(workspace_id=workspace_id, scope=scope, creation_time=now_ms, created_by=created_by)
    session.add(added)
    return added


async def list_scopes(
    session: AsyncSession, workspace_id: str, *, after: str | None, most: int
) -> Sequence[SecretScope]:
    """Return scopes by name, those after the name given."""
    query = select(SecretScope).where(SecretScope.workspace_id == workspace_id).order_by(SecretScope.scope).limit(most)
    if after is not None:
        query = query.where(SecretScope.scope > after)
    return (await session.scalars(query)).all()


async def count_scopes(session: AsyncSession, workspace_id: str) -> int:
    """Return how many scopes the workspace has."""
    query = select(func.count()).select_from(SecretScope).where(SecretScope.workspace_id == workspace_id)
    return (await session.scalars(query)).one()


async def remove_scope(session: AsyncSession, workspace_id: str, scope: str) -> None:
    """Delete a scope with its secrets and grants."""
    await session.execute(
        delete(SecretScope).where(SecretScope.workspace_id == workspace_id, SecretScope.scope == scope)
    )


async def find(session: AsyncSession, workspace_id: str, scope: str, key: str) -> WorkspaceSecret | None:
    """Return the secret, sealed."""
    return await session.get(WorkspaceSecret, (workspace_id, scope, key))


async def find_named(
    session: AsyncSession, workspace_id: str, names: Collection[tuple[str, str]]
) -> Sequence[WorkspaceSecret]:
    """Return those of the secrets (scope, key) that exist, sealed."""
    query = select(WorkspaceSecret).where(
        WorkspaceSecret.workspace_id == workspace_id,
        tuple_(WorkspaceSecret.scope, WorkspaceSecret.key).in_(list(names)),
    )
    return (await session.scalars(query)).all()


async def list_page(
    session: AsyncSession, workspace_id: str, scope: str, *, after: str | None, most: int
) -> Sequence[WorkspaceSecret]:
    """Return the secrets of a scope by key, those after the key given."""
    query = select(WorkspaceSecret).where(WorkspaceSecret.workspace_id == workspace_id, WorkspaceSecret.scope == scope)
    if after is not None:
        query = query.where(WorkspaceSecret.key > after)
    return (await session.scalars(query.order_by(WorkspaceSecret.key).limit(most))).all()


async def remove(session: AsyncSession, secret: WorkspaceSecret) -> None:
    """Delete a secret."""
    await session.delete(secret)


async def of_scopes(session: AsyncSession, workspace_id: str, scopes: Collection[str]) -> Sequence[WorkspaceSecret]:
    """Return all secrets of these scopes, sealed, by scope and key."""
    query = (
        select(WorkspaceSecret)
        .where(WorkspaceSecret.workspace_id == workspace_id, WorkspaceSecret.scope.in_(list(scopes)))
        .order_by(WorkspaceSecret.scope, WorkspaceSecret.key)
    )
    return (await session.scalars(query)).all()


async def versions(session: AsyncSession, workspace_ids: Collection[str]) -> dict[str, Sequence[tuple[str, str, int]]]:
    """Return (scope, key, version) of every secret of these workspaces, sorted, by workspace id."""
    columns = (WorkspaceSecret.workspace_id, WorkspaceSecret.scope, WorkspaceSecret.key, WorkspaceSecret.version)
    query = select(*columns).where(WorkspaceSecret.workspace_id.in_(workspace_ids))
    found: defaultdict[str, list[tuple[str, str, int]]] = defaultdict(list)
    ordered = query.order_by(WorkspaceSecret.workspace_id, WorkspaceSecret.scope, WorkspaceSecret.key)
    for workspace_id, scope, key, version in (await session.execute(ordered)).all():
        found[workspace_id].append((scope, key, version))
    return {workspace_id: found[workspace_id] for workspace_id in workspace_ids}


async def totals(session: AsyncSession, workspace_id: str) -> tuple[int, int]:
    """Return how many secrets the workspace has, and of how many bytes before sealing."""
    query = select(func.count(), func.coalesce(func.sum(WorkspaceSecret.size_bytes), 0)).where(
        WorkspaceSecret.workspace_id == workspace_id
    )
    count, size_bytes = (await session.execute(query)).one()
    return int(count), int(size_bytes)


async def find_data_key(session: AsyncSession, workspace_id: str) -> SecretDataKey | None:
    """Return the workspace's data key, wrapped."""
    return await session.get(SecretDataKey, workspace_id)


async def data_keys_not_under(session: AsyncSession, key_id: str, *, most: int) -> Sequence[SecretDataKey]:
    """Return data keys that are wrapped by another key-encryption key."""
    query = select(SecretDataKey).where(SecretDataKey.key_id != key_id).order_by(SecretDataKey.workspace_id)
    return (await session.scalars(query.limit(most))).all()


async def key_ids_in_use(session: AsyncSession) -> set[str]:
    """Return the key-encryption keys that data keys are wrapped by."""
    return set((await session.scalars(select(SecretDataKey.key_id).distinct())).all())
