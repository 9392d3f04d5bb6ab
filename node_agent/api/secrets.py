"""`POST /v1/secrets/notice`: the control plane says that it has other secrets for this node; nothing else is in it."""

from aiohttp import web

from node_agent.secrets.held import HeldSecrets


class SecretsApi:
    """Passes notices on. What the secrets are, the agent asks of the control plane itself, never of the caller."""

    def __init__(self, held: HeldSecrets) -> None:
        self._held = held

    async def notice(self, request: web.Request) -> web.StreamResponse:
        """Answer `POST /v1/secrets/notice`."""
        self._held.ask()
        return web.Response(status=204)
