"""`/w/{workspace}/api/2.0/join-tokens`: leave for machines to become nodes."""

from typing import Annotated, Any

from aiohttp import web
from pydantic import Field, StringConstraints

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.clusters import cluster_id_named
from control_plane.api.context import ApiContext, the_workspace
from control_plane.api.pages import PageQuery
from control_plane.api.requests import Name, Nothing, OperatorRequest, Text, read_body, read_query
from control_plane.api.responses import json_response
from control_plane.errors import invalid, not_found_in
from control_plane.names import new_id
from control_plane.settings import DAY_SECONDS
from control_plane.storage import join_tokens
from control_plane.storage.accounts import token_hash
from control_plane.storage.audit import Happening, append
from control_plane.storage.records.joining import JoinToken

PATH = "/w/{workspace}/api/2.0/join-tokens"
LONGEST_LIFE_SECONDS = 90 * DAY_SECONDS
MOST_LABELS = 32
LONGEST_LABEL_VALUE = 255

LabelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]
LabelValue = Annotated[Text, Field(max_length=LONGEST_LABEL_VALUE)]


class NewJoinToken(OperatorRequest):
    """The body of a creation; a token bound to a node name admits one machine, under that name."""

    node_name: Name | None = None
    labels: dict[LabelName, LabelValue] = Field(default={}, max_length=MOST_LABELS)
    cluster: str | None = Field(default=None, max_length=64)
    lifetime_seconds: int = Field(ge=1, le=LONGEST_LIFE_SECONDS)
    uses: int = Field(default=1, ge=1, le=10_000)


class JoinTokenResource:
    """Join tokens as operators see them: the token itself only in the answer to its creation."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("POST", PATH, Role.OPERATOR, self.create),
            Route("GET", PATH, Role.OPERATOR, self.list, query=True),
            Route("DELETE", PATH + "/{join_token_id}", Role.OPERATOR, self.delete),
        ]

    async def create(self, request: web.Request, caller: Caller) -> web.Response:
        """Create a join token; sent twice, there are two, of which the unused one expires."""
        body = await read_body(request, NewJoinToken)
        if body.node_name is not None and body.uses != 1:
            raise invalid("uses", "a token that is bound to a node name is for one use")
        now = self._context.clock.now()
        token = join_tokens.new_token("tlj")
        async with self._context.database.write() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            cluster_id = await cluster_id_named(session, workspace, body.cluster)
            record = JoinToken(
                join_token_id=new_id("jt"),
                workspace_id=workspace.workspace_id,
                token_sha256=token_hash(token),
                node_name=body.node_name,
                labels=dict(body.labels),
                cluster_id=cluster_id,
                uses=body.uses,
                used=0,
                expire_time=int((now + body.lifetime_seconds) * 1000),
                creation_time=int(now * 1000),
            )
            session.add(record)
            happening = Happening(
                "join_token.create",
                resource=record.join_token_id,
                workspace_id=workspace.workspace_id,
                details={"uses": body.uses, "node_name": body.node_name, "expire_time": record.expire_time},
            )
            append(session, now, caller.actor, happening)
        return json_response(_view(record) | {"join_token": token}, 201)

    async def list(self, request: web.Request, caller: Caller) -> web.Response:
        """List join tokens, without the tokens."""
        query = read_query(request, PageQuery)
        asked = self._context.pages.asked_for(request.path, query)
        async with self._context.database.read() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            rows = await join_tokens.list_page(
                session, workspace.workspace_id, after=asked.after(str), most=asked.most_rows
            )
        page, next_page = asked.cut(rows, lambda row: (row.join_token_id,))
        return json_response({"join_tokens": [_view(row) for row in page]} | next_page)

    async def delete(self, request: web.Request, caller: Caller) -> web.Response:
        """Make a join token useless; nodes that joined by it stay."""
        await read_body(request, Nothing)
        join_token_id = request.match_info["join_token_id"]
        async with self._context.database.write() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            record = await join_tokens.find(session, workspace.workspace_id, join_token_id)
            if record is None:
                raise not_found_in(workspace.workspace, "join token")
            await session.delete(record)
            happening = Happening("join_token.delete", resource=join_token_id, workspace_id=workspace.workspace_id)
            append(session, self._context.clock.now(), caller.actor, happening)
        return json_response({})


def _view(record: JoinToken) -> dict[str, Any]:
    view: dict[str, Any] = {
        "join_token_id": record.join_token_id,
        "labels": record.labels,
        "uses": record.uses,
        "used": record.used,
        "expire_time": record.expire_time,
        "creation_time": record.creation_time,
    }
    if record.node_name is not None:
        view["node_name"] = record.node_name
    if record.cluster_id is not None:
        view["cluster_id"] = record.cluster_id
    return view
