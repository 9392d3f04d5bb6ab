"""The emulated clouds' public sides over TLS: issuers' keys, Azure Resource Manager, and STS: DEVELOPMENT ONLY."""

from __future__ import annotations

from collections.abc import Collection

from aiohttp import web

from trunkline.sandbox.emulated_identity import EmulatedIssuer
from trunkline.sandbox.emulated_machines import AZURE_REGION, GCP_KEYS_PATH, TENANT, resource_id, vm_id
from trunkline.sandbox.emulated_sts import EmulatedSts


class EmulatedAuthority:
    """What a control plane asks."""

    def __init__(self, issuer: EmulatedIssuer, sts: EmulatedSts, machines: Collection[str], url: str) -> None:
        self._issuer = issuer
        self._sts = sts
        self._machines = {resource_id(machine).lower(): machine for machine in machines}
        self._url = url

    def application(self) -> web.Application:
        """The services as one application."""
        application = web.Application()
        router = application.router
        router.add_get(f"/{TENANT}/v2.0/.well-known/openid-configuration", self.configuration)
        router.add_get(f"/{TENANT}/.well-known/openid-configuration", self.configuration)
        router.add_get(f"/{TENANT}/discovery/v2.0/keys", self.keys)
        router.add_get(f"/{TENANT}/discovery/keys", self.keys)
        router.add_get(GCP_KEYS_PATH, self.gcp_keys)
        router.add_get("/subscriptions/{rest:.*}", self.machine)
        router.add_post("/", self._sts.answer)
        return application

    async def configuration(self, request: web.Request) -> web.Response:
        """The Azure issuer's metadata."""
        return web.json_response(self._issuer.configuration())

    async def keys(self, request: web.Request) -> web.Response:
        """The Azure issuer's keys."""
        return web.json_response(self._issuer.key_set())

    async def gcp_keys(self, request: web.Request) -> web.Response:
        """The Google issuer's keys."""
        return web.json_response(self._issuer.key_set(self._issuer.gcp_issuer))

    async def machine(self, request: web.Request) -> web.Response:
        """A VM, for whoever has a token for this service."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind != "Bearer" or not self._issuer.is_own_token(token, f"{self._url}/"):
            return web.json_response({"error": {"code": "AuthenticationFailed"}}, status=401)
        machine = self._machines.get(request.path.lower())
        if machine is None:
            return web.json_response({"error": {"code": "ResourceNotFound"}}, status=404)
        document = {
            "id": resource_id(machine),
            "name": machine,
            "location": AZURE_REGION,
            "tags": {"environment": "sandbox", "machine": machine},
            "properties": {"vmId": vm_id(machine)},
        }
        return web.json_response(document)
