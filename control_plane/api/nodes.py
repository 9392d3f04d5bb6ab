"""`/w/{workspace}/api/2.0/nodes`: the nodes of a workspace and their health."""

from typing import Any

from aiohttp import web
from pydantic import Field

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext, the_node, the_workspace
from control_plane.api.node_inits import init_view
from control_plane.api.pages import PageQuery
from control_plane.api.requests import Nothing, read_body, read_query
from control_plane.api.responses import json_response
from control_plane.errors import invalid
from control_plane.fleet.submission_news import SubmissionNews
from control_plane.history.chronicle import Chronicle
from control_plane.identity.endings import end_node
from control_plane.storage import health, node_inits, nodes
from control_plane.storage.nodes import NodeExtras, NodeFilter
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.init_scripts import NodeInit
from control_plane.storage.records.nodes import HealthObservation, Node
from control_plane.storage.submissions import SubmissionKey

PATH = "/w/{workspace}/api/2.0/nodes"


class NodeQuery(PageQuery):
    """The filters of the list."""

    state: str | None = Field(default=None, pattern="^(online|degraded|offline|pending)$")
    cluster: str | None = Field(default=None, max_length=64)
    label: list[str] = Field(default=[], max_length=16)


class NodeResource:
    """Nodes as operators see them."""

    def __init__(self, context: ApiContext, chronicle: Chronicle, news: SubmissionNews) -> None:
        self._context = context
        self._chronicle = chronicle
        self._news = news

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("GET", PATH, Role.OPERATOR, self.list, query=True),
            Route("GET", PATH + "/{node}", Role.OPERATOR, self.get),
            Route("DELETE", PATH + "/{node}", Role.OPERATOR, self.delete),
            Route("GET", PATH + "/{node}/health", Role.OPERATOR, self.health),
            Route("GET", PATH + "/{node}/health/history", Role.OPERATOR, self.history, query=True),
        ]

    async def list(self, request: web.Request, caller: Caller) -> web.Response:
        """List nodes by name."""
        query = read_query(request, NodeQuery)
        wanted = NodeFilter(query.state, query.cluster, read_selector(query.label))
        asked = self._context.pages.asked_for(request.path, query)
        async with self._context.database.read() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            rows = await nodes.select_nodes(
                session, workspace.workspace_id, wanted, after=asked.after(str), most=asked.most_rows
            )
            page, next_page = asked.cut(rows, lambda row: (row.node,))
            extras = await nodes.extras(session, [row.node_id for row in page])
            inits = await node_inits.of_nodes(session, [row.node_id for row in page])
        views = [self._view(workspace, row, extras[row.node_id], inits.get(row.node_id)) for row in page]
        return json_response({"nodes": views} | next_page)

    async def get(self, request: web.Request, caller: Caller) -> web.Response:
        """Return one node."""
        async with self._context.database.read() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            node = await the_node(session, workspace, request.match_info["node"])
            extras = await nodes.extras(session, [node.node_id])
            init = await node_inits.find(session, node.node_id)
        view = self._view(workspace, node, extras[node.node_id], init)
        return json_response(view if init is None else view | {"init": init_view(init)})

    async def delete(self, request: web.Request, caller: Caller) -> web.Response:
        """Delete a node and revoke its identity."""
        await read_body(request, Nothing)
        async with self._context.database.write() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            node = await the_node(session, workspace, request.match_info["node"])
            lost = await end_node(session, node, caller.actor, self._context.clock.now(), self._chronicle)
        for noted in lost:
            self._chronicle.done(noted)
            self._news.tell(SubmissionKey(noted.command.workspace_id, noted.command.submission_id))
        await self._context.trust.refresh()
        return json_response({})

    async def health(self, request: web.Request, caller: Caller) -> web.Response:
        """Return what the last health check found: the agent's own words, and the control plane's verdict."""
        async with self._context.database.read() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            node = await the_node(session, workspace, request.match_info["node"])
        verdict = {
            "node_id": node.node_id,
            "node": node.node,
            "state": node.state,
            "state_reason": node.state_reason,
            "state_time": node.state_time,
            "health_time": node.health_time,
            "last_seen_time": node.last_seen_time,
        }
        return json_response(dict(node.health or {}) | _known(verdict))

    async def history(self, request: web.Request, caller: Caller) -> web.Response:
        """List what health checks found, newest first."""
        query = read_query(request, PageQuery)
        asked = self._context.pages.asked_for(request.path, query)
        async with self._context.database.read() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            node = await the_node(session, workspace, request.match_info["node"])
            rows = await health.list_page(session, node.node_id, before=asked.after(int), most=asked.most_rows)
        page, next_page = asked.cut(rows, lambda row: (row.observation_id,))
        return json_response({"history": [_observation(row) for row in page]} | next_page)

    def _view(self, workspace: Workspace, node: Node, extras: NodeExtras, init: NodeInit | None) -> dict[str, Any]:
        view = {
            "node_id": node.node_id,
            "node": node.node,
            "workspace_id": workspace.workspace_id,
            "workspace": workspace.workspace,
            "state": node.state,
            "state_reason": node.state_reason,
            "init_state": init.state if init is not None else None,
            "init_reason": init.reason if init is not None else None,
            "labels": extras.labels,
            "clusters": extras.clusters,
            "agent_version": node.agent_version,
            "host": self._context.node_host(workspace, node),
            "creation_time": node.creation_time,
            "last_seen_time": node.last_seen_time,
            "relay_id": node.relay_id,
        }
        return _known(view)


def read_selector(labels: list[str]) -> dict[str, str]:
    """Return labels given as `key=value` as a mapping.

    Raises:
        ApiError: one has no `=`.
    """
    selector: dict[str, str] = {}
    for label in labels:
        key, equals, value = label.partition("=")
        if not equals or not key:
            raise invalid("label", "must be key=value")
        selector[key] = value
    return selector


def _observation(row: HealthObservation) -> dict[str, Any]:
    return _known(
        {
            "time": row.time,
            "state": row.state,
            "result": row.result,
            "reason": row.reason,
            "rtt_milliseconds": row.rtt_milliseconds,
        }
    )


def _known(view: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is not known."""
    return {key: value for key, value in view.items() if value is not None}
