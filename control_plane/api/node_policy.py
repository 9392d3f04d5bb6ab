"""`…/nodes/{node}/policy`: what a node's owner allows, in the node's own words, asked of it each time."""

from typing import Any

from aiohttp import web

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext, the_node, the_workspace
from control_plane.api.nodes import PATH
from control_plane.api.responses import json_response
from control_plane.errors import ApiError, ErrorCode
from control_plane.fleet.node_commands import NodeAddress, NodeCommands
from control_plane.fleet.node_documents import read_node_document
from control_plane.fleet.reach import NodeAnswer, NotReachedError, UnansweredError
from trunkline.client.errors import TrunklineError

LARGEST_POLICY_BYTES = 1024 * 1024
ASK_SECONDS = 10.0


class NodePolicyResource:
    """The policies of nodes, to read only: they are their owners'."""

    def __init__(self, context: ApiContext, nodes: NodeCommands) -> None:
        self._context = context
        self._nodes = nodes

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [Route("GET", PATH + "/{node}/policy", Role.OPERATOR, self.get)]

    async def get(self, request: web.Request, caller: Caller) -> web.Response:
        """Ask a node what its owner allows."""
        async with self._context.database.read() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            node = await the_node(session, workspace, request.match_info["node"])
        policy = await self._ask(NodeAddress(workspace, node))
        return json_response(policy | {"node_id": node.node_id, "node": node.node})

    async def _ask(self, address: NodeAddress) -> dict[str, Any]:
        try:
            answer = await self._nodes.policy(address, ASK_SECONDS)
            body = await answer.response.read(limit_bytes=LARGEST_POLICY_BYTES, timeout_seconds=ASK_SECONDS)
        except (NotReachedError, UnansweredError, TrunklineError) as error:
            message = f"the node cannot be asked: {error}"
            raise ApiError(ErrorCode.NODE_UNREACHABLE, message, retry_after_seconds=1) from None
        return _understood(answer, body)


def _understood(answer: NodeAnswer, body: bytes) -> dict[str, Any]:
    status = answer.response.status
    if status == 404:
        raise ApiError(ErrorCode.BAD_NODE_RESPONSE, "the node's agent is of a release that does not show its policy")
    document = read_node_document(body) if status == 200 else None
    if document is None:
        raise ApiError(ErrorCode.BAD_NODE_RESPONSE, f"the node's answer ({status}) is not a policy")
    return document
