"""Two workspaces in which everything has the same names, and what there is of either, table by table."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import inspect, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage import accounts, kept_outputs
from control_plane.storage.database import Database
from control_plane.storage.records.accounts import Account, Workspace
from control_plane.storage.records.commands import Command, CommandEvent, KeptOutput, Submission
from control_plane.storage.records.init_scripts import InitScript
from control_plane.storage.records.joining import JoinPolicy, JoinRequest, JoinToken
from control_plane.storage.records.nodes import Cluster, ClusterMember, HealthObservation, Node, NodeLabel
from control_plane.storage.records.record import Record
from control_plane.storage.records.secrets import SecretDataKey, SecretGrant, SecretScope, WorkspaceSecret

NOW_MS = 1_000_000
WORKSPACES = ("a", "b")
NAMES = ("one", "three", "two")
"""Of three of everything, as they are sorted."""
Rows = set[tuple[Any, ...]]


def made_id(kind: str, workspace: str, name: str = "") -> str:
    """Return the id of what has this name in the workspace."""
    return f"{kind}-{workspace}{name}".ljust(23, "x")


A, B = (made_id("ws", workspace) for workspace in WORKSPACES)


def machines(of: str, workspace_id: str) -> Iterable[Record]:
    """Three nodes, a cluster for each with it and all before it as members, and a join token, policy and request."""
    for number, name in enumerate(NAMES):
        node_id, cluster_id = made_id("nd", of, name), made_id("cl", of, name)
        yield Node(
            node_id=node_id,
            workspace_id=workspace_id,
            node=name,
            attested_as=f"machine-{name}",
            machine_resource=f"resource-{of}-{name}",
            sealing_key="k",
            agent_version="1",
            state="online" if name == "one" else "offline",
            state_time=1,
            creation_time=1,
        )
        yield NodeLabel(node_id=node_id, label="env", label_value=name)
        yield NodeLabel(node_id=node_id, label="role", label_value="one")
        yield Cluster(cluster_id=cluster_id, workspace_id=workspace_id, cluster=name, creation_time=1)
        for member in NAMES[: number + 1]:
            yield ClusterMember(cluster_id=cluster_id, node_id=made_id("nd", of, member))
        yield HealthObservation(node_id=node_id, time=number, state="online", result="ok")
        yield JoinToken(
            join_token_id=made_id("jt", of, name),
            workspace_id=workspace_id,
            token_sha256=accounts.token_hash(f"{of}-{name}"),
            labels={},
            uses=1,
            used=0,
            expire_time=NOW_MS + number,
            creation_time=1,
        )
        yield JoinPolicy(
            join_policy_id=made_id("jp", of, name),
            workspace_id=workspace_id,
            join_policy=name,
            platform="aws" if name == "one" else "gcp",
            conditions={},
            labels={},
            reattestation={},
            creation_time=1,
        )
        yield JoinRequest(
            join_request_id=made_id("jq", of, name),
            workspace_id=workspace_id,
            join_policy_id="jp",
            node_id=node_id,
            machine_id=f"machine-{name}",
            csr_sha256="csr",
            evidence_sha256="e",
            machine={},
            state="approved" if name == "one" else "pending",
            creation_time=1,
            last_time=1,
            expire_time=NOW_MS + number,
        )


def _secrets(of: str, workspace_id: str) -> Iterable[Record]:
    """Three scopes with three secrets each, and a grant of each to the node of its name."""
    yield SecretDataKey(workspace_id=workspace_id, key_id=f"key-{of}", wrapped=b"", last_version=1, creation_time=1)
    for scope in NAMES:
        yield SecretScope(workspace_id=workspace_id, scope=scope, creation_time=1, created_by="me")
        yield SecretGrant(
            grant_id=made_id("sg", of, scope),
            workspace_id=workspace_id,
            scope=scope,
            node_id=made_id("nd", of, scope),
            creation_time=1,
            created_by="me",
        )
        for key in NAMES:
            yield WorkspaceSecret(
                workspace_id=workspace_id,
                scope=scope,
                key=key,
                version=1,
                sealed=b"",
                size_bytes=10,
                update_time=1,
                updated_by="me",
            )


def _scripts(of: str, workspace_id: str) -> Iterable[Record]:
    """Three global scripts, and as many of one cluster; the last is not enabled."""
    for cluster_id in (None, made_id("cl", of, "one")):
        for position, name in enumerate(NAMES):
            yield InitScript(
                script_id=made_id("is", of, f"{name}{'g' if cluster_id is None else 'c'}"),
                workspace_id=workspace_id,
                cluster_id=cluster_id,
                owner_id=cluster_id or workspace_id,
                name=name,
                position=position,
                enabled=name != "two",
                content=b"",
                sha256="x",
                created_at=1,
                created_by="me",
                updated_at=1,
                updated_by="me",
            )


def _work(of: str, workspace_id: str) -> Iterable[Record]:
    """Three submissions, each to all nodes: on the node `one` the command has ended."""
    for number, name in enumerate(NAMES):
        yield Submission(
            workspace_id=workspace_id,
            submission_id=name,
            body_sha256="x",
            argv=["true"],
            spec={"argv": ["true"]},
            submitted_by="me",
            creation_time=number,
            rollout_open=name == "one",
        )
        for node in NAMES:
            command_id, final = f"{name}.{node}", node == "one"
            yield Command(
                workspace_id=workspace_id,
                command_id=command_id,
                submission_id=name,
                node_id=made_id("nd", of, node),
                node=node,
                state="SUCCEEDED" if final else "QUEUED",
                final=final,
                delivered=final,
                deliver_before=NOW_MS,
                cancel_requested=False,
                held=not final,
                wave=1,
                submit_time=number,
                end_time=number if final else None,
                stdout_bytes=0,
                stderr_bytes=0,
            )
            yield CommandEvent(workspace_id=workspace_id, command_id=command_id, time=1, event="recorded", details={})
            if final:
                yield kept_output(workspace_id, command_id, made_id("nd", of, node), number)


def kept_output(workspace_id: str, command_id: str, node_id: str, keep_time: int) -> KeptOutput:
    """Make the row of an output of which 100 bytes are kept since this time."""
    sizes = dict.fromkeys(("bytes", "head_bytes", "tail_bytes"), 0)
    return KeptOutput(
        workspace_id=workspace_id,
        command_id=command_id,
        node_id=node_id,
        state=kept_outputs.KEPT,
        fetch_before=1,
        kept_bytes=100,
        keep_time=keep_time,
        **{f"{stream}_{size}": zero for stream in ("stdout", "stderr") for size, zero in sizes.items()},
    )


async def fill(url: str) -> None:
    """Make a SQLite file with both."""
    database = Database(url)
    async with database.engine.begin() as connection:
        await connection.run_sync(Record.metadata.create_all)
    async with database.write() as session:
        await session.execute(text("PRAGMA defer_foreign_keys = ON"))  # rows come in any order
        accounts.add_account(session, NOW_MS)
        account_id = (await session.scalars(select(Account.account_id))).one()
        for of, workspace_id in zip(WORKSPACES, (A, B), strict=True):
            session.add(Workspace(workspace_id=workspace_id, account_id=account_id, workspace=of, creation_time=1))
            for make in (machines, _secrets, _scripts, _work):
                session.add_all(make(of, workspace_id))
    await database.close()


async def rows(session: AsyncSession, table: type[Record], **columns: Any) -> Rows:
    """Return the keys of the rows of a table that have these values."""
    await session.flush()
    query = select(*inspect(table).primary_key).filter_by(**columns)
    return {tuple(row) for row in (await session.execute(query)).all()}


async def everything(session: AsyncSession) -> dict[type[Record], Rows]:
    """Return the keys of all rows."""
    return {mapper.class_: await rows(session, mapper.class_) for mapper in Record.registry.mappers}


async def gone(session: AsyncSession, before: dict[type[Record], Rows]) -> dict[str, Rows]:
    """Return what there was and is no more, by table."""
    after = await everything(session)
    return {table.__tablename__: left for table in before if (left := before[table] - after[table])}


def names(found: Sequence[Any], column: str) -> list[str]:
    """Return a column of rows that are all of the first workspace."""
    assert {row.workspace_id for row in found} <= {A}
    return [getattr(row, column) for row in found]
