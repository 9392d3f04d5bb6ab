"""`/v1/shells`: open a shell.

To attach to it, the same path is asked for with an Upgrade, which is answered by `node_agent.exchanges.shell_door`.
"""

from aiohttp import web

from node_agent.api.bodies import read_body
from node_agent.api.routing import ApiRefused, caller_of, json_response
from node_agent.shells.request import SHELL_ID, parse_request
from node_agent.shells.shells import Shells


class ShellsApi:
    """Answers for the shells of the node."""

    def __init__(self, shells: Shells) -> None:
        self._shells = shells

    async def open(self, request: web.Request) -> web.StreamResponse:
        """Answer `PUT /v1/shells/{shell_id}`: 201 for a new shell, 200 for one that this caller has opened before."""
        shell_id = request.match_info["shell_id"]
        if not SHELL_ID.fullmatch(shell_id):
            raise ApiRefused(400, "INVALID_PARAMETER_VALUE", "a shell id is 1 to 128 of A-Z a-z 0-9 . _ -")
        asked = parse_request(await read_body(request))
        session, created = await self._shells.open(shell_id, asked, caller_of(request).claims)
        opening = session.opening
        document = {
            "shell_id": shell_id,
            "user": opening.user,
            "terminal": opening.terminal,
            "open_time": int(opening.time * 1000),
            "away_seconds": self._shells.away_seconds,
        }
        return json_response(document, 201 if created else 200)

    async def attach(self, request: web.Request) -> web.StreamResponse:
        """Answer `GET /v1/shells/{shell_id}` without the upgrade, or inside a tunnel, where there can be none."""
        message = "attach on a stream of its own, with Upgrade: trunkline-shell"
        raise ApiRefused(426, "UPGRADE_REQUIRED", message, {"Upgrade": "trunkline-shell", "Connection": "Upgrade"})
