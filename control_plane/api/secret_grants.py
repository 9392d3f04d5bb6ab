"""`/w/{workspace}/api/2.0/secrets/grants` and `…/adoption`: which nodes are given a scope, and which have it."""

from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.clusters import the_cluster
from control_plane.api.command_bodies import TargetBody
from control_plane.api.context import ApiContext, the_node, the_workspace
from control_plane.api.pages import PageQuery
from control_plane.api.requests import OperatorRequest, read_body, read_query
from control_plane.api.responses import json_response
from control_plane.api.secret_scopes import ScopeName, the_scope
from control_plane.api.secrets import PATH, KeyName
from control_plane.errors import limit_reached, not_found
from control_plane.fleet.secret_notices import SecretNotices
from control_plane.secrets.references import SecretName, no_such_secret
from control_plane.storage import nodes, secret_bundles, secret_grants, secrets
from control_plane.storage.audit import Happening, append
from control_plane.storage.nodes import NodeFilter
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.nodes import Cluster, Node
from control_plane.storage.records.secrets import SecretBundle, SecretGrant
from control_plane.storage.secret_grants import Grantee

MOST_GRANTS = 200


class GrantBody(OperatorRequest):
    """A scope, and the nodes that are given it, named as the target of a command is."""

    scope: ScopeName
    target: TargetBody


class GrantQuery(PageQuery):
    """Whose grants to list."""

    scope: ScopeName


class AdoptionQuery(PageQuery):
    """Which secret."""

    scope: ScopeName
    key: KeyName


class SecretGrantResource:
    """Grants and their effect."""

    def __init__(self, context: ApiContext, notices: SecretNotices) -> None:
        self._context = context
        self._notices = notices

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("POST", PATH + "/grants/put", Role.OPERATOR, self.put),
            Route("POST", PATH + "/grants/delete", Role.OPERATOR, self.delete),
            Route("GET", PATH + "/grants/list", Role.OPERATOR, self.list, query=True),
            Route("GET", PATH + "/adoption", Role.OPERATOR, self.adoption, query=True),
        ]

    async def put(self, request: web.Request, caller: Caller) -> web.Response:
        """Grant a scope; granted already, nothing changes."""
        body = await read_body(request, GrantBody)
        now = self._context.clock.now()
        async with self._context.database.write() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            await the_scope(session, workspace, body.scope)
            grantee = await _grantee(session, workspace, body.target)
            known = await secret_grants.of_scope(session, workspace.workspace_id, body.scope)
            grant = next((one for one in known if grantee.is_of(one)), None)
            status = 200
            if grant is None:
                status = 201
                if len(known) >= MOST_GRANTS:
                    message = f"a scope may have {MOST_GRANTS} grants: grant it to a cluster or a label"
                    raise limit_reached(message)
                grant = secret_grants.add(
                    session,
                    workspace.workspace_id,
                    body.scope,
                    grantee,
                    now_ms=int(now * 1000),
                    created_by=caller.actor.name,
                )
                append(session, now, caller.actor, _granting("secret.grant", workspace, body))
            view = await _view(session, grant)
        self._notices.look_again()
        return json_response(view, status)

    async def delete(self, request: web.Request, caller: Caller) -> web.Response:
        """Take a grant back; nodes that are granted the scope in no other way drop its secrets."""
        body = await read_body(request, GrantBody)
        async with self._context.database.write() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            await the_scope(session, workspace, body.scope)
            grantee = await _grantee(session, workspace, body.target)
            known = await secret_grants.of_scope(session, workspace.workspace_id, body.scope)
            grant = next((one for one in known if grantee.is_of(one)), None)
            if grant is None:
                listed_at = f"/w/{workspace.workspace}/api/2.0/secrets/grants/list?scope=…"
                raise not_found("grant", listed_at, place=f" in the workspace {workspace.workspace}")
            await session.delete(grant)
            append(session, self._context.clock.now(), caller.actor, _granting("secret.ungrant", workspace, body))
        self._notices.look_again()
        return json_response({})

    async def list(self, request: web.Request, caller: Caller) -> web.Response:
        """List the grants of a scope, oldest first; there are never more than a page of them."""
        query = read_query(request, GrantQuery)
        async with self._context.database.read() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            await the_scope(session, workspace, query.scope)
            grants = await secret_grants.of_scope(session, workspace.workspace_id, query.scope)
            views = [await _view(session, grant) for grant in grants]
        return json_response({"grants": views})

    async def adoption(self, request: web.Request, caller: Caller) -> web.Response:
        """List the nodes that are granted a secret, and those that still hold it, with the version that each has."""
        query = read_query(request, AdoptionQuery)
        name = SecretName(query.scope, query.key)
        asked = self._context.pages.asked_for(request.path, query)
        async with self._context.database.read() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            secret = await secrets.find(session, workspace.workspace_id, query.scope, query.key)
            if secret is None:
                raise no_such_secret(workspace.workspace)
            rows = await nodes.select_nodes(
                session, workspace.workspace_id, NodeFilter(), after=asked.after(str), most=asked.most_rows
            )
            page, next_page = asked.cut(rows, lambda row: (row.node,))
            ids = [row.node_id for row in page]
            granted = await secret_grants.granted_scopes(session, dict.fromkeys(ids, workspace.workspace_id))
            bundles = await secret_bundles.of_nodes(session, ids)
        views = [
            _adopted(row, bundles.get(row.node_id), name, secret.version, granted=name.scope in granted[row.node_id])
            for row in page
        ]
        shown = [view for view in views if view["granted"] or "version" in view]
        return json_response({"version": secret.version, "nodes": shown} | next_page)


async def _grantee(session: AsyncSession, workspace: Workspace, target: TargetBody) -> Grantee:
    if target.node is not None:
        return Grantee(node_id=(await the_node(session, workspace, target.node)).node_id)
    if target.cluster is not None:
        return Grantee(cluster_id=(await the_cluster(session, workspace, target.cluster)).cluster_id)
    return Grantee(selector=target.selector or {})


def _granting(action: str, workspace: Workspace, body: GrantBody) -> Happening:
    details = {"target": body.target.model_dump(exclude_none=True)}
    return Happening(action, "ok", body.scope, workspace.workspace_id, details)


async def _view(session: AsyncSession, grant: SecretGrant) -> dict[str, Any]:
    target: dict[str, Any] = {"selector": grant.selector} if grant.selector else {"all": True}
    if grant.node_id is not None:
        node = await session.get(Node, grant.node_id)
        target = {"node": node.node if node is not None else grant.node_id}
    elif grant.cluster_id is not None:
        cluster = await session.get(Cluster, grant.cluster_id)
        target = {"cluster": cluster.cluster if cluster is not None else grant.cluster_id}
    return {
        "scope": grant.scope,
        "target": target,
        "creation_time": grant.creation_time,
        "created_by": grant.created_by,
    }


def _adopted(
    node: Node, bundle: SecretBundle | None, name: SecretName, version: int, *, granted: bool
) -> dict[str, Any]:
    """Return how far one node is; `version` in the answer is what the node says it holds."""
    held = None if bundle is None else bundle.held.get(str(name))
    state = "waiting"
    if bundle is not None and not bundle.accepts:
        state = "refused"
    elif granted and held == version:
        state = "adopted"
    elif not granted:
        state = "leaving"
    elif bundle is not None and bundle.adopted_fingerprint == bundle.fingerprint and _was_handed(bundle, name, version):
        state = "refused"
    view: dict[str, Any] = {"node_id": node.node_id, "node": node.node, "granted": granted, "state": state}
    if held is not None:
        view["version"] = held
    if bundle is not None and bundle.adopt_time is not None:
        view["adopt_time"] = bundle.adopt_time
    return view


def _was_handed(bundle: SecretBundle, name: SecretName, version: int) -> bool:
    return bool(bundle.contents.get(str(name)) == version)
