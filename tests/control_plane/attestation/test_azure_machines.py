"""Azure Resource Manager: which machine a resource is, scale sets in pages, and a token that goes nowhere else."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from certs.arm_ids import ComputeResource, read_compute_resource
from control_plane.attestation.azure_machines import OwnToken, ResourceManager
from control_plane.attestation.outbound import Outbound
from control_plane.attestation.refusals import AttestationRefused, Outcome
from trunkline.runtime.clock import ManualClock

SUBSCRIPTION = "55555555-5555-4555-8555-555555555555"
COMPUTE = f"/subscriptions/{SUBSCRIPTION}/resourcegroups/rg/providers/microsoft.compute"
SCALE_SET = f"{COMPUTE}/virtualmachinescalesets/web"
VM_IDS = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(5)]


class Azure:
    """Resource Manager and a metadata service on one port, which can be told to misbehave."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.next_link: str | None = None
        self.status = 200
        self.tokens = 0
        self.url = ""

    async def token(self, request: web.Request) -> web.Response:
        assert request.headers["Metadata"] == "true"
        self.tokens += 1
        return web.json_response({"access_token": f"token-{self.tokens}", "expires_in": "3600"})

    async def resource(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        assert request.headers["Authorization"] == f"Bearer token-{self.tokens}"
        if self.status != 200:
            return web.Response(status=self.status, headers={"Location": "/elsewhere"})
        if request.path == f"{COMPUTE}/virtualmachines/vm-1":
            properties = {"vmId": VM_IDS[0].upper(), "virtualMachineScaleSet": {"id": SCALE_SET}}
            return web.json_response({"location": "WestEurope", "tags": {"a": "b", "n": 1}, "properties": properties})
        if request.path != f"{SCALE_SET}/virtualmachines":
            return web.Response(status=404)
        number = int(request.query.get("page", "0"))
        entry = {"id": f"{SCALE_SET}/virtualMachines/{number}", "properties": {"vmId": VM_IDS[number]}, "tags": None}
        page: dict[str, Any] = {"value": ["x", entry]}
        if number < 4:
            page["nextLink"] = self.next_link or f"{self.url}{SCALE_SET}/virtualmachines?page={number + 1}"
        return web.json_response(page)


@pytest.fixture
async def azure() -> AsyncIterator[Azure]:
    service = Azure()
    application = web.Application()
    application.router.add_get("/metadata/identity/oauth2/token", service.token)
    application.router.add_get("/subscriptions/{rest:.*}", service.resource)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield service
    await runner.cleanup()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def manager(azure: Azure, clock: ManualClock) -> AsyncIterator[ResourceManager]:
    async with aiohttp.ClientSession() as session:
        outbound = Outbound(session, "Azure")
        yield ResourceManager(outbound, azure.url, OwnToken(outbound, azure.url, f"{azure.url}/", clock))


def resource(text: str) -> ComputeResource:
    found = read_compute_resource(text)
    assert found is not None
    return found


async def test_a_machine_of_a_flexible_scale_set(manager: ResourceManager):
    found = await manager.find(resource(f"{COMPUTE}/virtualmachines/vm-1"), VM_IDS[0])
    assert (found.region, found.tags, found.scale_set, found.is_proved) == ("westeurope", {"a": "b"}, "web", True)


async def test_an_instance_is_found_on_whatever_page_it_is(manager: ResourceManager, azure: Azure):
    found = await manager.find(resource(SCALE_SET), VM_IDS[3])
    assert (found.resource.instance, found.scale_set) == ("3", "web")
    assert len(azure.asked) == 4
    assert azure.tokens == 1


@pytest.mark.parametrize("text", [f"{COMPUTE}/virtualmachines/vm-1", f"{COMPUTE}/virtualmachines/vm-2", SCALE_SET])
async def test_another_machines_document(manager: ResourceManager, text: str):
    with pytest.raises(AttestationRefused) as refused:
        await manager.find(resource(text), "99999999-0000-4000-8000-000000000000")
    assert refused.value.outcome is Outcome.DISAGREES


@pytest.mark.parametrize("link", ["https://evil.example/next", "http://127.0.0.1:1/next", "//evil.example/next"])
async def test_a_list_does_not_lead_the_token_elsewhere(manager: ResourceManager, azure: Azure, link: str):
    azure.next_link = link
    with pytest.raises(AttestationRefused, match="elsewhere") as refused:
        await manager.find(resource(SCALE_SET), VM_IDS[3])
    assert refused.value.outcome is Outcome.UNVERIFIABLE


@pytest.mark.parametrize("status", [302, 401, 403, 429, 500])
async def test_other_answers_are_no_verdict(manager: ResourceManager, azure: Azure, status: int):
    azure.status = status
    with pytest.raises(AttestationRefused) as refused:
        await manager.find(resource(SCALE_SET), VM_IDS[0])
    assert refused.value.outcome is Outcome.UNVERIFIABLE
    assert len(azure.asked) == 1


async def test_the_own_token_is_kept_until_it_is_about_to_end(
    manager: ResourceManager, azure: Azure, clock: ManualClock
):
    for _ in range(2):
        await manager.find(resource(f"{COMPUTE}/virtualmachines/vm-1"), VM_IDS[0])
    assert azure.tokens == 1
    clock.advance(3301)
    await manager.find(resource(f"{COMPUTE}/virtualmachines/vm-1"), VM_IDS[0])
    assert azure.tokens == 2
