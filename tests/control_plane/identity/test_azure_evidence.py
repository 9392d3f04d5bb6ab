"""Managed identities as evidence, against an issuer on loopback: allow-lists first, one machine one node."""

import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from certs.azure import ManagedIdentity
from control_plane.identity.azure_evidence import machine_of
from control_plane.settings import ControlPlaneSettings
from tests.support.control_planes import RunningControlPlane, running_control_plane, settings_for
from trunkline.sandbox.emulated_identity import EmulatedIssuer, object_id
from trunkline.sandbox.settings_files import AUDIENCE, TENANT

VM = "/subscriptions/s/resourcegroups/g/providers/microsoft.compute/virtualmachines/vm-1"
SHARED = "/subscriptions/s/resourcegroups/g/providers/microsoft.managedidentity/userassignedidentities/u"


class Issuer:
    """An issuer of managed-identity tokens on loopback that counts how often its keys are fetched."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.fetched = 0
        self.down = False

    async def __aenter__(self) -> "Issuer":
        app = web.Application()
        app.router.add_get("/{tenant}/discovery/v2.0/keys", self._keys)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self.issuer = EmulatedIssuer(self._directory / "issuer-key.pem", self.url)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _keys(self, request: web.Request) -> web.Response:
        self.fetched += 1
        return web.Response(status=500) if self.down else web.json_response(self.issuer.key_set())

    def token(self, machine: str = "vm-1", audience: str = AUDIENCE, now: float | None = None) -> str:
        return self.issuer.access_token(machine, audience, now or time.time())["access_token"]


def settings(directory: Path, issuer: Issuer, **changes: Any) -> ControlPlaneSettings:
    azure = {
        "audience": AUDIENCE,
        "tenants": [TENANT],
        "identities": ["*"],
        "workspace": "finance",
        "authority_url": issuer.url,
        "allow_insecure_authority": True,
    }
    return settings_for(directory, bootstrap={"azure": azure | changes})


async def attempt(plane: RunningControlPlane, token: str, **fields: Any) -> Any:
    body, _ = await plane.bootstrap_body("", evidence={"type": "azure", "token": token}, **fields)
    return await plane.call("POST", "/api/2.0/bootstrap", body, token=None)


async def test_a_machine_is_known_again(tmp_path: Path):
    async with (
        Issuer(tmp_path) as issuer,
        running_control_plane(tmp_path, settings=settings(tmp_path, issuer)) as plane,
    ):
        assert (await attempt(plane, issuer.token())).status == 403
        await plane.workspace()
        first = (await attempt(plane, issuer.token(), node_name="vm-1")).document
        again = (await attempt(plane, issuer.token(), node_name="other")).document
        other = (await attempt(plane, issuer.token("vm-2"), node_name="vm-2")).document
        assert (first["node"], again["node_id"]) == ("vm-1", first["node_id"])
        assert other["node_id"] != first["node_id"]
        assert issuer.fetched == 1
        granted = await plane.audit(action="node.bootstrap", outcome="ok")
        assert granted[-1]["details"]["object_id"] == object_id("vm-1")


async def test_the_earlier_identity_is_valid_until_the_new_one_is_confirmed(tmp_path: Path):
    from certs.chains import CertificateChain
    from certs.identities import Identity

    async with (
        Issuer(tmp_path) as issuer,
        running_control_plane(tmp_path, settings=settings(tmp_path, issuer)) as plane,
    ):
        await plane.workspace()
        identities = []
        for _ in range(2):
            evidence = {"type": "azure", "token": issuer.token()}
            body, key = await plane.bootstrap_body("", evidence=evidence)
            answer = await plane.ok("POST", "/api/2.0/bootstrap", body, token=None)
            identities.append(Identity(key, CertificateChain.from_pem(answer["certificate_chain"])))
        old, new = identities
        await plane.ok("POST", "/api/2.0/bootstrap/confirm", {}, identity=old)
        await plane.ok("POST", "/api/2.0/nodes/self/listen-token", {}, identity=old)
        await plane.ok("POST", "/api/2.0/bootstrap/confirm", {}, identity=new)
        refused = await plane.call("POST", "/api/2.0/nodes/self/listen-token", {}, identity=old)
        assert (refused.status, refused.document["message"]) == (401, "this certificate was revoked")
        await plane.ok("POST", "/api/2.0/nodes/self/listen-token", {}, identity=new)


async def test_what_the_earlier_identity_renewed_meanwhile_ends_with_it(tmp_path: Path):
    from certs.chains import CertificateChain
    from certs.identities import Identity, build_csr
    from certs.keyfiles import generate_key

    async with (
        Issuer(tmp_path) as issuer,
        running_control_plane(tmp_path, settings=settings(tmp_path, issuer)) as plane,
    ):
        await plane.workspace()
        identities = []
        for _ in range(2):
            evidence = {"type": "azure", "token": issuer.token()}
            body, key = await plane.bootstrap_body("", evidence=evidence)
            answer = await plane.ok("POST", "/api/2.0/bootstrap", body, token=None)
            identities.append(Identity(key, CertificateChain.from_pem(answer["certificate_chain"])))
        stolen, new = identities
        key = generate_key()
        renewed = await plane.ok("POST", "/api/2.0/nodes/self/renew", {"csr": build_csr(key)}, identity=stolen)
        thief = Identity(key, CertificateChain.from_pem(renewed["certificate_chain"]))
        await plane.ok("POST", "/api/2.0/bootstrap/confirm", {}, identity=new)
        refused = await plane.call("POST", "/api/2.0/nodes/self/listen-token", {}, identity=thief)
        assert (refused.status, refused.document.get("message")) == (401, "this certificate was revoked")
        await plane.ok("POST", "/api/2.0/nodes/self/listen-token", {}, identity=new)


@pytest.mark.parametrize(
    ("changes", "token", "status"),
    [
        ({"tenants": ["11111111-2222-3333-4444-555555555555"]}, {}, 403),
        ({"identities": ["11111111-2222-3333-4444-555555555555"]}, {}, 403),
        ({}, {"audience": "https://management.azure.com"}, 401),
        ({}, {"now": 1_500_000_000.0}, 401),
        ({"audience": "api://other"}, {}, 401),
    ],
)
async def test_what_is_not_allowed_costs_no_fetch(
    tmp_path: Path, changes: dict[str, Any], token: dict[str, Any], status: int
):
    async with (
        Issuer(tmp_path) as issuer,
        running_control_plane(tmp_path, settings=settings(tmp_path, issuer, **changes)) as plane,
    ):
        await plane.workspace()
        assert (await attempt(plane, issuer.token(**token))).status == status
        assert issuer.fetched == 0
        assert issuer.token() not in str(await plane.audit())


@pytest.mark.parametrize("token", ["x", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "x" * 70_000])
async def test_garbage(tmp_path: Path, token: str):
    async with (
        Issuer(tmp_path) as issuer,
        running_control_plane(tmp_path, settings=settings(tmp_path, issuer)) as plane,
    ):
        await plane.workspace()
        assert (await attempt(plane, token)).status in (400, 401, 403)
        assert issuer.fetched == 0


async def test_an_issuer_that_is_down_is_no_verdict(tmp_path: Path):
    async with (
        Issuer(tmp_path) as issuer,
        running_control_plane(tmp_path, settings=settings(tmp_path, issuer)) as plane,
    ):
        await plane.workspace()
        issuer.down = True
        answer = await attempt(plane, issuer.token())
        assert (answer.status, answer.error_code) == (503, "TEMPORARILY_UNAVAILABLE")
        assert "Retry-After" in answer.headers


@pytest.mark.parametrize(
    ("resource", "identity", "machine"),
    [(VM, None, VM), (None, VM, VM), (VM, SHARED, VM), (None, SHARED, None), (None, None, None)],
)
def test_a_shared_identity_is_no_machine(resource: str | None, identity: str | None, machine: str | None):
    assert machine_of(ManagedIdentity("t", "o", "a", resource, identity, 0, 0)) == machine
