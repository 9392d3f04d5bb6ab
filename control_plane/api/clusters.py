"""`/w/{workspace}/api/2.0/clusters`: named groups of nodes."""

from collections.abc import Sequence
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext, the_node, the_workspace
from control_plane.api.pages import PageQuery
from control_plane.api.requests import Name, Nothing, OperatorRequest, read_body, read_query
from control_plane.api.responses import json_response
from control_plane.errors import conflict, not_found_in
from control_plane.storage import clusters, init_scripts
from control_plane.storage.audit import Happening, append
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.init_scripts import InitScript
from control_plane.storage.records.nodes import Cluster

PATH = "/w/{workspace}/api/2.0/clusters"
MOST_NODES_NAMED = 1000

NodeAddresses = Annotated[list[str], Field(max_length=MOST_NODES_NAMED)]


class NewCluster(OperatorRequest):
    """The body of a creation; nodes are ids or names."""

    cluster: Name
    nodes: NodeAddresses = Field(default=[])


class ClusterChange(OperatorRequest):
    """The body of a change: who comes in, who goes out."""

    add: NodeAddresses = Field(default=[])
    remove: NodeAddresses = Field(default=[])


class ClusterResource:
    """Clusters as operators see them."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("POST", PATH, Role.OPERATOR, self.create),
            Route("GET", PATH, Role.OPERATOR, self.list, query=True),
            Route("GET", PATH + "/{cluster}", Role.OPERATOR, self.get),
            Route("PATCH", PATH + "/{cluster}", Role.OPERATOR, self.change),
            Route("DELETE", PATH + "/{cluster}", Role.OPERATOR, self.delete),
        ]

    async def create(self, request: web.Request, caller: Caller) -> web.Response:
        """Create a cluster; sent twice, the second answer is the first's with status 200."""
        body = await read_body(request, NewCluster)
        now = self._context.clock.now()
        async with self._context.database.write() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            members = await _node_ids(session, workspace, body.nodes, "nodes")
            cluster = await clusters.find(session, workspace.workspace_id, body.cluster)
            if cluster is not None:
                view = await _view(session, cluster)
                if set(await clusters.member_ids(session, cluster.cluster_id)) != set(members):
                    raise conflict("a cluster of this name exists with other nodes; change it with PATCH")
                return json_response(view)
            cluster = clusters.add(session, workspace.workspace_id, body.cluster, int(now * 1000))
            await session.flush()
            await clusters.add_members(session, cluster.cluster_id, members)
            details = {"cluster_id": cluster.cluster_id, "nodes": body.nodes}
            happening = Happening(
                "cluster.create", resource=body.cluster, workspace_id=workspace.workspace_id, details=details
            )
            append(session, now, caller.actor, happening)
            await session.flush()
            view = await _view(session, cluster)
        return json_response(view, 201)

    async def list(self, request: web.Request, caller: Caller) -> web.Response:
        """List clusters by name."""
        query = read_query(request, PageQuery)
        asked = self._context.pages.asked_for(request.path, query)
        async with self._context.database.read() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            rows = await clusters.list_page(
                session, workspace.workspace_id, after=asked.after(str), most=asked.most_rows
            )
            page, next_page = asked.cut(rows, lambda row: (row.cluster,))
            members = await clusters.members(session, [row.cluster_id for row in page])
            scripts = await init_scripts.of_owners(session, [row.cluster_id for row in page])
        views = [_document(row, members[row.cluster_id], scripts[row.cluster_id]) for row in page]
        return json_response({"clusters": views} | next_page)

    async def get(self, request: web.Request, caller: Caller) -> web.Response:
        """Return one cluster."""
        async with self._context.database.read() as session:
            _, cluster = await _found(session, request)
            return json_response(await _view(session, cluster))

    async def change(self, request: web.Request, caller: Caller) -> web.Response:
        """Put nodes into a cluster and take others out."""
        body = await read_body(request, ClusterChange)
        now = self._context.clock.now()
        async with self._context.database.write() as session:
            workspace, cluster = await _found(session, request)
            added = await _node_ids(session, workspace, body.add, "add")
            await clusters.add_members(session, cluster.cluster_id, added)
            await session.flush()
            removed = await _node_ids(session, workspace, body.remove, "remove")
            await clusters.remove_members(session, cluster.cluster_id, removed)
            happening = Happening(
                "cluster.change",
                resource=cluster.cluster,
                workspace_id=workspace.workspace_id,
                details={"add": body.add, "remove": body.remove},
            )
            append(session, now, caller.actor, happening)
            await session.flush()
            view = await _view(session, cluster)
        return json_response(view)

    async def delete(self, request: web.Request, caller: Caller) -> web.Response:
        """Delete a cluster; its nodes stay."""
        await read_body(request, Nothing)
        async with self._context.database.write() as session:
            workspace, cluster = await _found(session, request)
            await clusters.remove(session, cluster.cluster_id)
            happening = Happening("cluster.delete", resource=cluster.cluster, workspace_id=workspace.workspace_id)
            append(session, self._context.clock.now(), caller.actor, happening)
        return json_response({})


async def the_cluster(
    session: AsyncSession, workspace: Workspace, address: str, *, field: str | None = None
) -> Cluster:
    """Return the workspace's cluster with this id or name; `field` is where a request's body names it.

    Raises:
        ApiError: there is none.
    """
    cluster = await clusters.find(session, workspace.workspace_id, address)
    if cluster is None:
        raise not_found_in(workspace.workspace, "cluster", field=field)
    return cluster


async def cluster_id_named(session: AsyncSession, workspace: Workspace, address: str | None) -> str | None:
    """Return the id of the cluster that a body's `cluster` names, by id or name; None where it names none.

    Raises:
        ApiError: there is no such cluster.
    """
    if address is None:
        return None
    return (await the_cluster(session, workspace, address, field="cluster")).cluster_id


async def _found(session: AsyncSession, request: web.Request) -> tuple[Workspace, Cluster]:
    workspace = await the_workspace(session, request.match_info["workspace"])
    return workspace, await the_cluster(session, workspace, request.match_info["cluster"])


async def _node_ids(session: AsyncSession, workspace: Workspace, addresses: list[str], field: str) -> list[str]:
    return [
        (await the_node(session, workspace, address, field=f"{field}.{index}")).node_id
        for index, address in enumerate(addresses)
    ]


async def _view(session: AsyncSession, cluster: Cluster) -> dict[str, Any]:
    members = await clusters.members(session, [cluster.cluster_id])
    return _document(cluster, members[cluster.cluster_id], await init_scripts.of_owner(session, cluster.cluster_id))


def _document(cluster: Cluster, members: list[str], scripts: Sequence[InitScript]) -> dict[str, Any]:
    return {
        "cluster_id": cluster.cluster_id,
        "cluster": cluster.cluster,
        "nodes": members,
        "init_scripts": [{"script_id": one.script_id, "name": one.name, "enabled": one.enabled} for one in scripts],
        "creation_time": cluster.creation_time,
    }
