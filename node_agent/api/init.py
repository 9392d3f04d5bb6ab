"""`POST /v1/init/notice`: the control plane says that the node is to be initialised again; nothing else is in it."""

from collections.abc import Callable

from aiohttp import web


class InitApi:
    """Passes notices on. What is to be run, the agent asks of the control plane itself, never of the caller."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask

    async def notice(self, request: web.Request) -> web.StreamResponse:
        """Answer `POST /v1/init/notice`."""
        self._ask()
        return web.Response(status=204)
