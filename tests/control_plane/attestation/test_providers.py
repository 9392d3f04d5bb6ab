"""Each platform's evidence, collected as the agent does and verified against the emulated clouds, true and false."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from certs.evidence_nonce import evidence_nonce
from certs.identities import build_csr
from certs.keyfiles import generate_key
from control_plane.attestation.evidence import Evidence
from tests.support.emulated_clouds import CloudPlane, cloud_plane
from trunkline.sandbox.emulated_machines import (
    AWS_ACCOUNT,
    AWS_REGION,
    GCP_PROJECT,
    TENANT,
    ec2_instance_id,
    gcp_instance_id,
    object_id,
    resource_id,
    vm_id,
)

PLATFORMS = ["azure", "aws", "gcp"]
OTHER_UUID = "11111111-2222-3333-4444-555555555555"
MACHINE_IDS = {
    "azure": f"azure:{vm_id('vm-1')}",
    "aws": f"aws:{AWS_ACCOUNT}:{AWS_REGION}:{ec2_instance_id('vm-1')}",
    "gcp": f"gcp:{GCP_PROJECT}:{gcp_instance_id('vm-1')}",
}


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_a_machine_becomes_a_node_and_is_known_again(cloudy: CloudPlane, platform: str):
    await cloudy.policy(platform)
    body, _ = await cloudy.request("vm-1", platform, node_name="vm-1")
    first = (await cloudy.send(body)).document
    again = (await cloudy.attest("vm-1", platform, node_name="other")).document
    other = (await cloudy.attest("vm-2", platform, node_name="vm-2")).document
    assert (first["node"], again["node_id"]) == ("vm-1", first["node_id"])
    assert other["node_id"] != first["node_id"]
    event = (await cloudy.plane.audit(action="node.bootstrap", outcome="ok"))[-1]
    parts = body["evidence"]
    assert event["details"]["machine_id"] == MACHINE_IDS[platform]
    assert len(event["details"]["evidence_sha256"]) == 64
    audited = str(await cloudy.plane.audit())
    assert not [part for part in (parts.get("token"), parts.get("document")) if part and part in audited]
    assert (cloudy.counted(platform, "admitted"), cloudy.counted(platform, "reattested")) == (2, 1)


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_without_a_policy_nobody_is_admitted(cloudy: CloudPlane, platform: str):
    await cloudy.plane.workspace()
    answer = await cloudy.attest("vm-1", platform)
    assert (answer.status, answer.error_code) == (403, "PERMISSION_DENIED")
    assert "no join policy" in answer.document["message"]
    [event] = await cloudy.plane.audit(action="node.bootstrap")
    assert event["outcome"].startswith("refused: no join policy")
    assert cloudy.counted(platform, "no_policy") == 1


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_a_replayed_bootstrap_is_one_node_and_one_identity(cloudy: CloudPlane, platform: str):
    await cloudy.policy(platform)
    body, _ = await cloudy.request("vm-1", platform)
    answers = await asyncio.gather(*(cloudy.send(body) for _ in range(100)))
    assert {answer.status for answer in answers} <= {200, 429}
    granted = [answer.document for answer in answers if answer.status == 200]
    assert len({one["certificate_chain"] for one in granted}) == 1
    assert len((await cloudy.plane.ok("GET", "/w/finance/api/2.0/nodes"))["nodes"]) == 1


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_evidence_is_good_for_one_challenge_and_one_key(cloudy: CloudPlane, platform: str):
    await cloudy.policy(platform)
    body, _ = await cloudy.request("vm-1", platform)
    stolen_for_another_key = body | {"csr": build_csr(generate_key())}
    assert (await cloudy.send(stolen_for_another_key)).status == 401
    stolen_for_another_challenge = body | {"nonce": await cloudy.plane.nonce()}
    assert (await cloudy.send(stolen_for_another_challenge)).status == 401
    assert (await cloudy.send(body)).status == 200
    reused = await cloudy.send(stolen_for_another_key)
    assert (reused.status, "another signing request" in reused.document["message"]) == (409, True)


@pytest.mark.parametrize("nonce", ["guessed", "A" * 43, "0" * 128])
async def test_a_guessed_nonce_is_refused_before_anything_is_asked(tmp_path: Path, nonce: str):
    async with cloud_plane(tmp_path, azure={"resource_manager_url": "https://localhost:1"}) as cloudy:
        await cloudy.policy()
        body, _ = await cloudy.request()
        assert (await cloudy.send(body)).status == 503
        answer = await cloudy.send(body | {"nonce": nonce})
        assert (answer.status, answer.error_code) == (401, "UNAUTHENTICATED")
        assert cloudy.counted("azure", "bad_nonce") == 1


@pytest.mark.parametrize(
    ("platform", "lies", "status", "outcome"),
    [
        ("azure", {"document_of": "vm-2"}, 401, "disagrees"),
        ("azure", {"token_of": "vm-2", "resource_id": resource_id("vm-2")}, 401, "disagrees"),
        ("azure", {"foreign_signer": True}, 401, "bad_evidence"),
        ("azure", {"nonce": "0" * 32}, 401, "bad_evidence"),
        ("azure", {"audience": "https://management.azure.com/"}, 401, "bad_evidence"),
        ("azure", {"resource_id": resource_id("gone")}, 401, "disagrees"),
        ("azure", {"resource_id": resource_id("vm-1") + "/../vm-2"}, 403, "not_allowed"),
        ("azure", {"resource_id": resource_id("vm-1").replace("/vm-1", "//vm-1")}, 403, "not_allowed"),
        ("azure", {"resource_id": resource_id("vm-2%2f..%2fvm-1")}, 403, "not_allowed"),
        ("azure", {"resource_id": resource_id("vm-1") + "/extensions/x"}, 403, "not_allowed"),
        ("azure", {"resource_id": f"/subscriptions/{OTHER_UUID}/resourceGroups/virtualMachines/x"}, 403, "not_allowed"),
        (
            "azure",
            {"resource_id": resource_id("vm-1").replace("00000000-0000-4000-8000-5a4db0c50000", OTHER_UUID)},
            401,
            "disagrees",
        ),
        ("aws", {"document_of": "vm-2"}, 401, "disagrees"),
        ("aws", {"token_of": "vm-2"}, 401, "disagrees"),
        ("aws", {"foreign_signer": True}, 401, "bad_evidence"),
        ("gcp", {"nonce": "0" * 32}, 401, "bad_evidence"),
        ("gcp", {"audience": "https://other.example"}, 401, "bad_evidence"),
    ],
)
async def test_lies(cloudy: CloudPlane, platform: str, lies: dict[str, Any], status: int, outcome: str):
    await cloudy.policy(platform)
    await cloudy.clouds.lie("vm-1", **lies)
    answer = await cloudy.attest("vm-1", platform)
    assert answer.status == status, answer
    assert cloudy.counted(platform, outcome) == 1
    assert (await cloudy.plane.ok("GET", "/w/finance/api/2.0/nodes"))["nodes"] == []
    await cloudy.clouds.lie("vm-1")
    assert (await cloudy.attest("vm-1", platform)).status == 200


async def test_the_case_of_a_resource_id_means_nothing(cloudy: CloudPlane):
    await cloudy.policy()
    first = await cloudy.attest()
    await cloudy.clouds.lie("vm-1", resource_id=resource_id("VM-1").upper().replace("/SUBSCRIPTIONS", "/Subscriptions"))
    again = await cloudy.attest()
    assert again.document["node_id"] == first.document["node_id"]


@pytest.mark.parametrize(
    ("platform", "changes"),
    [
        ("azure", {"tenants": [OTHER_UUID]}),
        ("azure", {"identities": [OTHER_UUID]}),
        ("aws", {"accounts": ["000000000043"]}),
        ("gcp", {"projects": ["another-project"]}),
    ],
)
async def test_who_is_on_no_list_is_refused_before_anything_is_asked(
    tmp_path: Path, platform: str, changes: dict[str, Any]
):
    nobody: dict[str, dict[str, Any]] = {
        "azure": {},
        "aws": {"sts_url": "https://localhost:1"},
        "gcp": {"keys_url": "https://localhost:1/keys"},
    }
    sections: dict[str, Any] = {platform: changes | nobody[platform]}
    async with cloud_plane(tmp_path, **sections) as cloudy:
        await cloudy.policy(platform)
        assert (await cloudy.attest("vm-1", platform)).status == 403
        assert cloudy.counted(platform, "not_allowed") == 1


async def test_the_allowed_identity(tmp_path: Path):
    async with cloud_plane(tmp_path, azure={"identities": [object_id("vm-1")]}) as cloudy:
        await cloudy.policy()
        assert (await cloudy.attest("vm-1")).status == 200
        assert (await cloudy.attest("vm-2")).status == 403


@pytest.mark.parametrize(
    ("platform", "changes"),
    [
        ("azure", {"resource_manager_url": "https://localhost:1"}),
        ("azure", {"metadata_url": "http://127.0.0.1:1"}),
        ("aws", {"sts_url": "https://localhost:1"}),
        ("gcp", {"keys_url": "https://localhost:1/keys"}),
    ],
)
async def test_a_cloud_that_does_not_answer_is_no_verdict(tmp_path: Path, platform: str, changes: dict[str, Any]):
    sections: dict[str, Any] = {platform: changes}
    async with cloud_plane(tmp_path, **sections) as cloudy:
        await cloudy.policy(platform)
        answer = await cloudy.attest("vm-1", platform)
        assert (answer.status, answer.error_code) == (503, "TEMPORARILY_UNAVAILABLE")
        assert "Retry-After" in answer.headers


async def test_at_first_use_a_machine_and_its_resource_are_held_to_each_other(tmp_path: Path):
    async with cloud_plane(tmp_path, azure={"machine_check": "first_use"}) as cloudy:
        await cloudy.policy()
        assert (await cloudy.attest("vm-1")).status == 200
        await cloudy.clouds.lie("vm-1", resource_id=resource_id("vm-2"))
        answer = await cloudy.attest("vm-1")
        assert (answer.status, "another resource id" in answer.document["message"]) == (401, True)
        await cloudy.clouds.lie("vm-2", resource_id=resource_id("vm-1"))
        answer = await cloudy.attest("vm-2")
        assert (answer.status, "another machine" in answer.document["message"]) == (401, True)


async def test_at_first_use_a_scale_set_is_refused(tmp_path: Path):
    scale_set = resource_id("x").replace("virtualMachines", "virtualMachineScaleSets")
    async with cloud_plane(tmp_path, azure={"machine_check": "first_use"}) as cloudy:
        await cloudy.policy()
        await cloudy.clouds.lie("vm-1", resource_id=scale_set)
        assert "scale set" in (await cloudy.attest("vm-1")).document["message"]


@pytest.mark.parametrize(
    "evidence",
    [
        {"type": "azure", "token": "x"},
        {"type": "azure", "token": "a.b.c", "document": "AAAA"},
        {"type": "azure", "token": "x" * 65_536, "document": "AAAA"},
        {"type": "aws", "document": "AAAA"},
        {"type": "aws", "token": "x"},
        {"type": "gcp", "token": "eyJhbGciOiJub25lIn0.e30."},
        {"type": "gcp", "token": "x", "document": "x"},
        {"type": "oracle", "token": "x"},
        {"type": "join_token", "token": "x", "document": "x"},
        {"type": "azure"},
    ],
)
async def test_garbage(cloudy: CloudPlane, evidence: dict[str, Any]):
    body, _ = await cloudy.plane.bootstrap_body("", evidence=evidence)
    assert (await cloudy.send(body)).status in (400, 401, 403)


async def test_what_is_asked_of_resource_manager_is_asked_as_the_control_plane(cloudy: CloudPlane):
    provider: Any = cloudy.plane.foundation.providers["azure"]
    body, _ = await cloudy.request()
    said = Evidence("azure", token=body["evidence"]["token"], document=body["evidence"]["document"])
    now = cloudy.plane.foundation.clock.now()
    machine = await provider.verify(said, evidence_nonce(body["nonce"], body["csr"]), now)
    assert (machine.tenant, machine.resource_group, machine.name) == (TENANT, "sandbox", "vm-1")
    assert machine.tags == {"environment": "sandbox", "machine": "vm-1"}
    assert machine.resource_is_proved
