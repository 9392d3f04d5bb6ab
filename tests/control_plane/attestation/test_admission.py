"""What becomes of machines whose evidence is genuine: policies, names, coming back, clones, approvals."""

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from sqlalchemy import update

from certs.chains import CertificateChain
from certs.encoding import encode_base64url
from certs.evidence_nonce import evidence_nonce
from certs.identities import Identity, build_csr
from certs.keyfiles import generate_key
from certs.late_renewal import sign_late_renewal
from certs.predecessor import sign_predecessor
from certs.trust import verify_first_trust_document
from control_plane.storage.records.certificates import Certificate
from control_plane.storage.records.nodes import Node
from tests.support.emulated_clouds import BOOTSTRAP, CloudPlane, cloud_plane
from trunkline.runtime.clock import SystemClock
from trunkline.sandbox.emulated_machines import AWS_ACCOUNT, AWS_ROLE, SUBSCRIPTION, TENANT, object_id, service_account

DAY_SECONDS = 86_400


class OffsetClock(SystemClock):
    """The machine's clock, moved forwards by the test."""

    __slots__ = ("offset",)

    def __init__(self) -> None:
        self.offset = 0.0

    def now(self) -> float:
        return super().now() + self.offset


async def set_state(cloudy: CloudPlane, node_id: str, **values: Any) -> None:
    async with cloudy.plane.database.write() as session:
        await session.execute(update(Node).where(Node.node_id == node_id).values(values))


async def sealing_key(cloudy: CloudPlane, node_id: str) -> str:
    async with cloudy.plane.database.read() as session:
        node = await session.get(Node, node_id)
    assert node is not None
    return node.sealing_key


async def with_word(cloudy: CloudPlane, identity: Identity, **changes: Any) -> dict[str, Any]:
    """A request in which the machine shows the key that its node had."""
    body, _ = await cloudy.request()
    nonce = changes.get("nonce", evidence_nonce(body["nonce"], body["csr"]))
    return body | {"predecessor": sign_predecessor(identity, nonce)}


@pytest.mark.parametrize(
    ("platform", "conditions", "admitted"),
    [
        ("azure", {"tenants": [TENANT]}, True),
        ("azure", {"accounts": [SUBSCRIPTION.upper()], "resource_groups": ["SandBox", "other"]}, True),
        ("azure", {"accounts": [SUBSCRIPTION], "resource_groups": ["other"]}, False),
        ("azure", {"accounts": [SUBSCRIPTION], "scale_sets": ["web"]}, False),
        ("azure", {"accounts": [SUBSCRIPTION], "regions": ["sandboxregion"]}, True),
        ("azure", {"accounts": [SUBSCRIPTION], "identities": [object_id("vm-1")]}, True),
        ("azure", {"accounts": [SUBSCRIPTION], "identities": [object_id("vm-2")]}, False),
        ("azure", {"accounts": [SUBSCRIPTION], "tags": {"Environment": "sandbox", "machine": "vm-1"}}, True),
        ("azure", {"accounts": [SUBSCRIPTION], "tags": {"environment": "sandbox", "machine": "vm-2"}}, False),
        ("azure", {"accounts": [SUBSCRIPTION], "tags": {"owner": "x"}}, False),
        ("aws", {"accounts": [AWS_ACCOUNT], "identities": [f"arn:aws:iam::{AWS_ACCOUNT}:role/{AWS_ROLE}"]}, True),
        ("aws", {"accounts": [AWS_ACCOUNT], "regions": ["eu-central-1"]}, False),
        ("gcp", {"accounts": ["trunkline-sandbox"], "identities": [service_account("vm-1")]}, True),
        ("gcp", {"accounts": ["another-project"]}, False),
    ],
)
async def test_conditions(cloudy: CloudPlane, platform: str, conditions: dict[str, Any], admitted: bool):
    await cloudy.policy(platform, conditions=conditions)
    assert (await cloudy.attest("vm-1", platform)).status == (200 if admitted else 403)


async def test_a_policy_gives_name_cluster_and_labels(cloudy: CloudPlane):
    await cloudy.plane.workspace()
    await cloudy.plane.ok("POST", "/w/finance/api/2.0/clusters", {"cluster": "blue"})
    await cloudy.policy(node_name="{region}-{name}", labels={"role": "web"}, cluster="blue")
    answer, _ = await cloudy.join(node_name="what-the-agent-wants")
    assert answer["node"] == "sandboxregion-vm-1"
    seen = await cloudy.plane.ok("GET", f"/w/finance/api/2.0/nodes/{answer['node_id']}")
    assert (seen["labels"], seen["clusters"]) == ({"role": "web"}, ["blue"])


async def test_the_most_particular_policy_decides(cloudy: CloudPlane):
    await cloudy.policy(name="a-general", node_name="general")
    await cloudy.policy(
        name="b-special", node_name="special", conditions={"accounts": [SUBSCRIPTION], "regions": ["sandboxregion"]}
    )
    assert (await cloudy.attest()).document["node"] == "special"


async def test_several_workspaces(cloudy: CloudPlane):
    await cloudy.policy(workspace="finance")
    await cloudy.policy(workspace="research")
    answer = await cloudy.attest()
    assert (answer.status, "several workspaces" in answer.document["message"]) == (403, True)
    assert (await cloudy.attest(workspace="research")).document["workspace"] == "research"
    assert (await cloudy.attest(workspace="nowhere")).status == 403


async def test_a_clone_raises_an_alarm_and_changes_nothing(cloudy: CloudPlane):
    await cloudy.policy()
    answer, identity = await cloudy.join()
    await set_state(cloudy, answer["node_id"], state="online")
    for _ in range(3):
        refused = await cloudy.attest()
        assert (refused.status, refused.error_code) == (409, "RESOURCE_CONFLICT")
    await cloudy.plane.ok("POST", "/api/2.0/nodes/self/listen-token", {}, identity=identity)
    [alarm] = await cloudy.plane.audit(action="node.clone_alarm")
    assert answer["node_id"] in alarm["outcome"]
    sample = cloudy.plane.foundation.registry.get_sample_value
    assert (cloudy.counted("azure", "clone"), sample("trunkline_control_plane_clone_alarms_total")) == (3, 3)
    async with cloudy.plane.database.read() as session:
        node = await session.get(Node, answer["node_id"])
    assert node is not None
    assert node.state == "online"
    await set_state(cloudy, answer["node_id"], state="offline")
    assert (await cloudy.attest()).document["node_id"] == answer["node_id"]


async def test_the_same_instance_is_no_clone(cloudy: CloudPlane):
    await cloudy.policy()
    answer, identity = await cloudy.join()
    await set_state(cloudy, answer["node_id"], state="online")
    assert (await cloudy.send(await with_word(cloudy, identity))).document["node_id"] == answer["node_id"]


async def test_a_predecessors_word_that_is_worth_nothing(cloudy: CloudPlane, monkeypatch: pytest.MonkeyPatch):
    await cloudy.policy()
    answer, identity = await cloudy.join()
    _, other = await cloudy.join("vm-2")
    await set_state(cloudy, answer["node_id"], state="online")
    forged = cloudy.plane.forged_node(answer["workspace_id"], answer["node_id"])
    monkeypatch.setattr(x509, "random_serial_number", lambda: int(identity.serial, 16))
    without_key = cloudy.plane.forged_node(answer["workspace_id"], answer["node_id"])
    monkeypatch.undo()
    assert without_key.serial == identity.serial, "a certificate is known to whoever saw one of its handshakes"
    body, _ = await cloudy.request()
    for word in ("x", "a.b.c", body["evidence"]["token"][:4096]):
        assert (await cloudy.send(body | {"predecessor": word, "nonce": body["nonce"]})).status == 409
        body, _ = await cloudy.request()
    for one in (other, forged, without_key):
        assert (await cloudy.send(await with_word(cloudy, one))).status == 409
    assert (await cloudy.send(await with_word(cloudy, identity, nonce="0" * 32))).status == 409
    await cloudy.plane.ok("POST", "/api/2.0/revocations", {"kind": "certificate", "id": identity.serial})
    assert (await cloudy.send(await with_word(cloudy, identity))).status == 409


async def test_an_expired_certificate_still_tells_the_instance(cloudy: CloudPlane):
    await cloudy.policy()
    answer, identity = await cloudy.join()
    await set_state(cloudy, answer["node_id"], state="online")
    async with cloudy.plane.database.write() as session:
        await session.execute(update(Certificate).where(Certificate.serial == identity.serial).values(expire_time=1))
    assert (await cloudy.send(await with_word(cloudy, identity))).status == 200


async def test_a_key_that_the_node_has_replaced_tells_nothing(cloudy: CloudPlane):
    await cloudy.policy()
    answer, old = await cloudy.join()
    key = generate_key()
    renewed = await cloudy.plane.ok("POST", "/api/2.0/nodes/self/renew", {"csr": build_csr(key)}, identity=old)
    new = Identity(key, CertificateChain.from_pem(renewed["certificate_chain"]))
    await set_state(cloudy, answer["node_id"], state="online")
    assert (await cloudy.send(await with_word(cloudy, old))).status == 200, "the new key is not proved yet"
    await cloudy.plane.ok("POST", f"{BOOTSTRAP}/confirm", {}, identity=new)
    assert (await cloudy.send(await with_word(cloudy, old))).status == 409
    assert (await cloudy.send(await with_word(cloudy, new))).status == 200


async def test_the_sealing_key_changes_with_the_confirmation(cloudy: CloudPlane):
    await cloudy.policy()
    answer, _ = await cloudy.join()
    before = await sealing_key(cloudy, answer["node_id"])
    next_key = encode_base64url(b"n" * 32)
    assert (await cloudy.attest(sealing_key=next_key)).status == 200
    assert await sealing_key(cloudy, answer["node_id"]) == before
    await cloudy.join(sealing_key=next_key)
    assert await sealing_key(cloudy, answer["node_id"]) == next_key != before


async def test_an_attested_node_does_not_renew_late(cloudy: CloudPlane):
    await cloudy.policy()
    _, identity = await cloudy.join()
    body, _ = await cloudy.request()
    asked = {"nonce": body["nonce"], "csr": body["csr"], "sealing_key": body["sealing_key"]}
    document = {"request": sign_late_renewal(identity, **asked), "csr": body["csr"], "agent_version": "1"}
    refused = await cloudy.plane.call("POST", "/api/2.0/nodes/late-renewal", document, token=None)
    assert (refused.status, "bootstrap with its evidence" in refused.document["message"]) == (401, True)


async def test_a_revoked_node_does_not_come_back(cloudy: CloudPlane):
    await cloudy.policy()
    answer, _ = await cloudy.join()
    await cloudy.plane.ok("POST", "/api/2.0/revocations", {"kind": "node", "id": answer["node_id"]})
    refused = await cloudy.attest()
    assert (refused.status, "was revoked" in refused.document["message"]) == (403, True)
    await cloudy.plane.ok("DELETE", f"/w/finance/api/2.0/nodes/{answer['node_id']}")
    assert (await cloudy.attest()).document["node_id"] != answer["node_id"]


@pytest.mark.parametrize("kind", ["node", "workspace"])
async def test_while_a_node_is_locked_only_its_own_instance_comes_back(cloudy: CloudPlane, kind: str):
    """No health check reaches it then, so that it is offline whether its machine runs or not."""
    await cloudy.policy()
    answer, identity = await cloudy.join()
    asked = {"kind": kind, "id": answer[f"{kind}_id"], "lifetime_seconds": 600, "reason": "an alarm"}
    lock = await cloudy.plane.ok("POST", "/api/2.0/locks", asked)
    await set_state(cloudy, answer["node_id"], state="offline")
    refused = await cloudy.attest()
    assert (refused.status, f"the {kind} is locked" in refused.document["message"]) == (403, True)
    assert (await cloudy.send(await with_word(cloudy, identity))).document["node_id"] == answer["node_id"]
    await cloudy.plane.ok("DELETE", f"/api/2.0/locks/{lock['lock_id']}")
    assert (await cloudy.attest()).document["node_id"] == answer["node_id"]


async def test_a_window_since_the_first_bootstrap(tmp_path: Path):
    clock = OffsetClock()
    async with cloud_plane(tmp_path, clock=clock) as cloudy:
        rule = {"mode": "window", "seconds": 600, "since": "first_bootstrap"}
        await cloudy.policy("gcp", reattestation=rule)
        answer, _ = await cloudy.join("vm-1", "gcp")
        assert (await cloudy.attest("vm-1", "gcp")).status == 200
        async with cloudy.plane.database.write() as session:
            past = int((clock.now() - 601) * 1000)
            await session.execute(update(Node).values(confirm_time=past, creation_time=past))
        refused = await cloudy.attest("vm-1", "gcp")
        assert (refused.status, "is over" in refused.document["message"]) == (403, True)
        await set_state(cloudy, answer["node_id"], last_seen_time=int(clock.now() * 1000), state="offline")
        assert (await cloudy.attest("vm-1", "gcp")).status == 403
        assert cloudy.counted("gcp", "window_closed") == 2


async def test_a_window_since_the_node_was_last_seen(cloudy: CloudPlane):
    rule = {"mode": "window", "seconds": 600, "since": "last_seen"}
    await cloudy.policy(reattestation=rule)
    answer, _ = await cloudy.join()
    now_ms = int(cloudy.plane.foundation.clock.now() * 1000)
    long_ago = now_ms - DAY_SECONDS * 1000
    await set_state(cloudy, answer["node_id"], confirm_time=long_ago, creation_time=long_ago)
    assert (await cloudy.attest()).status == 403
    await set_state(cloudy, answer["node_id"], last_seen_time=now_ms, state="offline")
    assert (await cloudy.attest()).status == 200


async def test_approval(cloudy: CloudPlane):
    await cloudy.policy(reattestation={"mode": "approval"})
    answer, identity = await cloudy.join()
    body, _ = await cloudy.request()
    for _ in range(3):
        waiting = await cloudy.send(body)
        assert (waiting.status, waiting.error_code) == (403, "PERMISSION_DENIED")
        renewed, _ = await cloudy.request(csr=body["csr"])
        body = renewed | {"csr": body["csr"]}
    path = "/w/finance/api/2.0/join-requests"
    [request] = (await cloudy.plane.ok("GET", f"{path}?state=pending"))["join_requests"]
    assert request["join_request_id"] in waiting.document["message"]
    assert (request["node_id"], request["machine"]["platform"]) == (answer["node_id"], "azure")
    approved = await cloudy.plane.ok("POST", f"{path}/{request['join_request_id']}/approve", {})
    assert approved["state"] == "approved"
    assert (await cloudy.attest()).status == 403, "the approval is for one key"
    assert (await cloudy.send(body)).document["node_id"] == answer["node_id"]
    assert (await cloudy.attest()).status == 403, "and for one bootstrap"
    await cloudy.plane.ok("POST", "/api/2.0/nodes/self/listen-token", {}, identity=identity)
    actions = [(event["action"], event["outcome"]) for event in await cloudy.plane.audit()]
    assert ("join_request.create", "pending") in actions
    assert ("join_request.decide", "approved") in actions
    assert cloudy.counted("azure", "approval_needed") == 5


async def test_denial(cloudy: CloudPlane):
    await cloudy.policy(reattestation={"mode": "approval"})
    await cloudy.join()
    body, _ = await cloudy.request()
    await cloudy.send(body)
    path = "/w/finance/api/2.0/join-requests"
    [request] = (await cloudy.plane.ok("GET", path))["join_requests"]
    await cloudy.plane.ok("POST", f"{path}/{request['join_request_id']}/deny", {})
    again = await cloudy.request(csr=body["csr"])
    refused = await cloudy.send(again[0])
    assert "has denied" in refused.document["message"]
    conflict = await cloudy.plane.call("POST", f"{path}/{request['join_request_id']}/approve", {})
    assert conflict.status == 409
    assert (await cloudy.plane.call("POST", f"{path}/jq-{'a' * 20}/approve", {})).status == 404


async def test_requests_of_one_machine_are_bounded(cloudy: CloudPlane):
    await cloudy.policy(reattestation={"mode": "approval"})
    await cloudy.join()
    for _ in range(6):
        assert (await cloudy.attest()).status == 403
    assert len((await cloudy.plane.ok("GET", "/w/finance/api/2.0/join-requests"))["join_requests"]) == 4


@pytest.mark.parametrize(("decision", "status"), [("approve", 200), ("deny", 403)])
async def test_what_was_decided_is_not_forgotten_by_asking_often(cloudy: CloudPlane, decision: str, status: int):
    await cloudy.policy(reattestation={"mode": "approval"})
    await cloudy.join()
    body, _ = await cloudy.request()
    await cloudy.send(body)
    path = "/w/finance/api/2.0/join-requests"
    [request] = (await cloudy.plane.ok("GET", path))["join_requests"]
    await cloudy.plane.ok("POST", f"{path}/{request['join_request_id']}/{decision}", {})
    for _ in range(5):
        assert (await cloudy.attest()).status == 403
    again, _ = await cloudy.request(csr=body["csr"])
    answer = await cloudy.send(again | {"csr": body["csr"]})
    assert answer.status == status
    assert decision == "approve" or "has denied" in answer.document["message"]


async def test_a_machine_that_never_confirmed_needs_no_approval(cloudy: CloudPlane):
    await cloudy.policy(reattestation={"mode": "approval"})
    first = await cloudy.attest()
    assert (await cloudy.attest()).document["node_id"] == first.document["node_id"]


async def test_the_earlier_identity_is_valid_until_the_new_one_is_confirmed(cloudy: CloudPlane):
    await cloudy.policy()
    _, old = await cloudy.join()
    await cloudy.attest()
    await cloudy.plane.ok("POST", "/api/2.0/nodes/self/listen-token", {}, identity=old)
    _, new = await cloudy.join()
    refused = await cloudy.plane.call("POST", "/api/2.0/nodes/self/listen-token", {}, identity=old)
    assert (refused.status, refused.document["message"]) == (401, "this certificate was revoked")
    await cloudy.plane.ok("POST", "/api/2.0/nodes/self/listen-token", {}, identity=new)


async def test_a_confirmation_that_there_is_no_room_for_is_asked_for_again(
    cloudy: CloudPlane, monkeypatch: pytest.MonkeyPatch
):
    await cloudy.policy()
    await cloudy.join()
    new = await unconfirmed(cloudy)
    with monkeypatch.context() as full:
        full.setattr("control_plane.storage.revocations.MOST_REVOCATIONS", 0)
        refused = await cloudy.plane.call("POST", f"{BOOTSTRAP}/confirm", {}, identity=new)
    assert (refused.status, refused.error_code, refused.headers["Retry-After"]) == (429, "RESOURCE_EXHAUSTED", "60")
    await cloudy.plane.ok("POST", f"{BOOTSTRAP}/confirm", {}, identity=new)


async def test_a_node_that_comes_back_for_ever_leaves_operators_room_to_revoke(
    cloudy: CloudPlane, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("control_plane.storage.revocations.MOST_REVOCATIONS", 8)
    monkeypatch.setattr("control_plane.storage.revocations.OF_OPERATORS", 2, raising=False)
    monkeypatch.setattr("control_plane.storage.revocations.SUBJECT_PART", 2, raising=False)
    await cloudy.policy()
    answer, _ = await cloudy.join()

    async def confirmed() -> bool:
        identity = await unconfirmed(cloudy)
        return (await cloudy.plane.call("POST", f"{BOOTSTRAP}/confirm", {}, identity=identity)).status == 200

    ended = 0
    while ended < 20 and await confirmed():
        ended += 1
    assert ended == 2, "its part of what is left"
    await cloudy.plane.ok("POST", "/api/2.0/revocations", {"kind": "node", "id": answer["node_id"]})


async def test_a_machine_that_comes_back_again_and_again_has_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever a node keeps proving, what is written down of it is bounded; machines that are new do not wait."""
    monkeypatch.setattr("control_plane.identity.bootstrap.MOST_RETURNS_PER_SECOND", 1 / 600, raising=False)
    async with cloud_plane(tmp_path) as cloudy:
        await cloudy.policy()
        assert [(await cloudy.attest()).status for _ in range(3)] == [200, 200, 429]
        assert (await cloudy.attest("vm-2")).status == 200


async def unconfirmed(cloudy: CloudPlane, **fields: Any) -> Identity:
    body, key = await cloudy.request(**fields)
    return Identity(key, CertificateChain.from_pem((await cloudy.send(body)).document["certificate_chain"]))


async def renew(cloudy: CloudPlane, identity: Identity, sealing: str) -> Identity:
    key = generate_key()
    body = {"csr": build_csr(key), "sealing_key": sealing}
    answer = await cloudy.plane.ok("POST", "/api/2.0/nodes/self/renew", body, identity=identity)
    return Identity(key, CertificateChain.from_pem(answer["certificate_chain"]))


async def test_nobody_goes_round_the_confirmation_by_renewing(cloudy: CloudPlane):
    await cloudy.policy()
    _, old = await cloudy.join()
    renewed = await renew(cloudy, await unconfirmed(cloudy), encode_base64url(b"n" * 32))
    refused = await cloudy.plane.call("POST", "/api/2.0/nodes/self/listen-token", {}, identity=old)
    assert (refused.status, refused.document["message"]) == (401, "this certificate was revoked")
    document = verify_first_trust_document(cloudy.plane.control_plane.identities.trust.text, SystemClock().now())
    assert old.serial in document.revocations.certificates
    await cloudy.plane.ok("POST", "/api/2.0/nodes/self/listen-token", {}, identity=renewed)


async def test_whoever_has_the_earlier_key_does_not_keep_the_new_one_from_its_secrets(cloudy: CloudPlane):
    await cloudy.policy()
    answer, old = await cloudy.join()
    wanted = encode_base64url(b"n" * 32)
    new = await unconfirmed(cloudy, sealing_key=wanted)
    thief = await renew(cloudy, old, encode_base64url(b"t" * 32))
    await cloudy.plane.ok("POST", f"{BOOTSTRAP}/confirm", {}, identity=thief)
    await cloudy.plane.ok("POST", f"{BOOTSTRAP}/confirm", {}, identity=new)
    assert await sealing_key(cloudy, answer["node_id"]) == wanted
    assert (await cloudy.plane.call("POST", f"{BOOTSTRAP}/confirm", {}, identity=thief)).status == 401


async def test_a_clock_that_was_set_back_leaves_no_earlier_identity_behind(tmp_path: Path):
    clock = OffsetClock()
    async with cloud_plane(tmp_path, clock=clock) as cloudy:
        await cloudy.policy()
        clock.offset = 120.0
        answer, old = await cloudy.join()
        clock.offset = 0.0
        following = encode_base64url(b"n" * 32)
        _, new = await cloudy.join(sealing_key=following)
        refused = await cloudy.plane.call("POST", "/api/2.0/nodes/self/listen-token", {}, identity=old)
        assert (refused.status, refused.document["message"]) == (401, "this certificate was revoked")
        assert await sealing_key(cloudy, answer["node_id"]) == following
        await set_state(cloudy, answer["node_id"], state="online")
        assert (await cloudy.send(await with_word(cloudy, old))).status == 409
        assert (await cloudy.send(await with_word(cloudy, new))).status == 200
