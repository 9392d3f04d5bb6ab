"""`/w/{workspace}/api/2.0/tokens`: call tokens for one node, workspace tokens for shared ports."""

from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from certs.errors import TokenError
from certs.tokens import IssuedToken
from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext, the_node, the_workspace
from control_plane.api.requests import OperatorRequest, read_body
from control_plane.api.responses import json_response
from control_plane.errors import ApiError, invalid
from control_plane.identity.issuance import Issuance
from control_plane.storage import relays
from control_plane.storage.audit import Happening, append

PATH = "/w/{workspace}/api/2.0/tokens"
AGENT_PORTS = (80, 443)

Port = Annotated[int, Field(ge=1, le=65535)]


class NewCallToken(OperatorRequest):
    """Calls to one node with the scopes named."""

    node: str = Field(max_length=64)
    scopes: list[str] = Field(min_length=1, max_length=64)
    lifetime_seconds: int | None = Field(default=None, ge=1)
    """Without one it lives as long as a call token may here."""


class NewWorkspaceToken(OperatorRequest):
    """Shared ports of every node of the workspace."""

    ports: list[Port] = Field(min_length=1, max_length=64)
    lifetime_seconds: int = Field(ge=1)


class TokenResource:
    """Tokens for senders."""

    def __init__(self, context: ApiContext, issuance: Issuance) -> None:
        self._context = context
        self._issuance = issuance

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("POST", PATH + "/call", Role.OPERATOR, self.create_call),
            Route("POST", PATH + "/workspace", Role.OPERATOR, self.create_workspace),
        ]

    async def create_call(self, request: web.Request, caller: Caller) -> web.Response:
        """Issue a call token."""
        body = await read_body(request, NewCallToken)
        longest_seconds = self._context.settings.tokens.longest_call_seconds
        lifetime_seconds = body.lifetime_seconds or longest_seconds
        _check_lifetime(lifetime_seconds, longest_seconds)
        now = self._context.clock.now()
        async with self._context.database.write() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            node = await the_node(session, workspace, body.node, field="node")
            try:
                issued = self._issuance.call_token(
                    workspace,
                    node,
                    subject=caller.actor.name,
                    scopes=body.scopes,
                    lifetime_seconds=lifetime_seconds,
                    now=now,
                )
            except TokenError as error:
                raise _scopes_refused(error) from None
            await self._issuance.note(session, issued)
            details = {"scopes": body.scopes, "token_id": issued.claims.token_id}
            happening = Happening(
                "token.issue_call", resource=node.node, workspace_id=workspace.workspace_id, details=details
            )
            append(session, now, caller.actor, happening)
            addresses = await relays.addresses(session)
        view = _view(issued, addresses)
        return json_response(view | {"host": self._context.node_host(workspace, node)}, 201)

    async def create_workspace(self, request: web.Request, caller: Caller) -> web.Response:
        """Issue a workspace token."""
        body = await read_body(request, NewWorkspaceToken)
        _check_lifetime(body.lifetime_seconds, self._context.settings.tokens.longest_workspace_seconds)
        if any(port in AGENT_PORTS for port in body.ports):
            raise invalid("ports", "80 and 443 are the agent's own: ask for a call token")
        if len(set(body.ports)) != len(body.ports):
            raise invalid("ports", "a port is named twice")
        now = self._context.clock.now()
        async with self._context.database.write() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            issued = self._issuance.workspace_token(
                workspace,
                subject=caller.actor.name,
                ports=body.ports,
                lifetime_seconds=body.lifetime_seconds,
                now=now,
            )
            await self._issuance.note(session, issued)
            details = {"ports": body.ports, "token_id": issued.claims.token_id}
            happening = Happening("token.issue_workspace", workspace_id=workspace.workspace_id, details=details)
            append(session, now, caller.actor, happening)
            addresses = await relays.addresses(session)
        return json_response(_view(issued, addresses), 201)


def _check_lifetime(lifetime_seconds: int, longest_seconds: int) -> None:
    if lifetime_seconds > longest_seconds:
        raise invalid("lifetime_seconds", f"must be at most {longest_seconds}")


def _scopes_refused(error: TokenError) -> ApiError:
    words = "command:submit, command:read, health:read, metrics:read, shell:open, file:read, file:write, port:<1-65535>"
    return invalid("scopes", f"{error}; scopes are {words}, each once")


def _view(issued: IssuedToken, addresses: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "token": issued.text,
        "token_id": issued.claims.token_id,
        "expire_time": issued.claims.expires_at * 1000,
        "relays": addresses,
    }
