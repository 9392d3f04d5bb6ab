"""What a node is handed: only after its confirmation, only what it is granted, sealed to it, under growing numbers."""

import asyncio
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from prometheus_client import CollectorRegistry

from certs.chains import CertificateChain
from certs.errors import SealingError
from certs.identities import Identity, build_csr
from certs.keyfiles import generate_key
from certs.sealing import write_sealing_key
from certs.secret_bundles import open_bundle
from certs.spiffe import node_id
from control_plane.metrics import ControlPlaneMetrics
from control_plane.secrets.bundles import Bundles
from control_plane.storage.audit import Actor
from control_plane.storage.records.nodes import Node
from tests.support.control_planes import TRUST_DOMAIN, EnrolledNode, RunningControlPlane

PATH = "/w/finance/api/2.0/secrets"
FETCH = "/api/2.0/nodes/self/secrets"
KEY = X25519PrivateKey.generate()
SEALING_KEY = write_sealing_key(KEY.public_key())


async def enrolled(plane: RunningControlPlane, name: str = "vm-1", **token: Any) -> EnrolledNode:
    await plane.workspace()
    body, key = await plane.bootstrap_body(await plane.join_token(**token), node_name=name, sealing_key=SEALING_KEY)
    answer = await plane.ok("POST", "/api/2.0/bootstrap", body, token=None)
    return EnrolledNode(answer, Identity(key, CertificateChain.from_pem(answer["certificate_chain"])))


async def confirmed(plane: RunningControlPlane, name: str = "vm-1", **token: Any) -> EnrolledNode:
    node = await enrolled(plane, name, **token)
    await plane.ok("POST", "/api/2.0/bootstrap/confirm", {}, identity=node.identity)
    return node


async def with_secret(plane: RunningControlPlane, scope: str = "db", value: str = "hunter2") -> None:
    await plane.workspace()
    await plane.ok("POST", f"{PATH}/scopes/create", {"scope": scope})
    await plane.ok("POST", f"{PATH}/put", {"scope": scope, "key": "password", "string_value": value})


async def grant(plane: RunningControlPlane, scope: str = "db", **target: Any) -> None:
    await plane.ok("POST", f"{PATH}/grants/put", {"scope": scope, "target": target})


async def fetch(plane: RunningControlPlane, node: EnrolledNode, held: int | None = None) -> dict[str, Any]:
    body = {"sealing_key": SEALING_KEY} | ({} if held is None else {"held_sequence": held})
    return await plane.ok("POST", FETCH, body, identity=node.identity)


def opened(node: EnrolledNode, answer: dict[str, Any]) -> dict[str, tuple[int, bytes]]:
    identity = node_id(TRUST_DOMAIN, node.workspace_id, node.node_id)
    bundle = open_bundle(answer["sealed"], KEY, identity, answer["sequence"])
    return {f"{one.scope}/{one.key}": (one.version, one.value) for one in bundle}


async def report(plane: RunningControlPlane, node: EnrolledNode, sequence: int, **fields: Any) -> None:
    body = {"report_id": "r-1", "sequence": sequence, "held": {}, **fields}
    await plane.ok("POST", f"{FETCH}/report", body, identity=node.identity)


async def adoption(plane: RunningControlPlane) -> list[dict[str, Any]]:
    return list((await plane.ok("GET", f"{PATH}/adoption?scope=db&key=password"))["nodes"])


async def test_a_granted_node_is_handed_what_it_is_granted_and_no_more(plane: RunningControlPlane):
    node = await confirmed(plane)
    assert await fetch(plane, node) == {"sequence": 0}
    await with_secret(plane)
    await with_secret(plane, "other", "not for you")
    assert await fetch(plane, node) == {"sequence": 0}, "a scope is granted to nobody at first"
    await grant(plane, node="vm-1")
    answer = await fetch(plane, node)
    assert opened(node, answer) == {"db/password": (1, b"hunter2")}
    assert "hunter2" not in json.dumps(answer)


async def test_a_bundle_is_handed_once_unless_it_is_lost_or_something_changes(plane: RunningControlPlane):
    await with_secret(plane)
    node = await confirmed(plane)
    await grant(plane, all=True)
    first = await fetch(plane, node)
    assert await fetch(plane, node, first["sequence"]) == {"sequence": first["sequence"]}
    again = await fetch(plane, node)
    assert again["sequence"] > first["sequence"]
    assert opened(node, again) == opened(node, first)
    await plane.ok("POST", f"{PATH}/put", {"scope": "db", "key": "password", "string_value": "new"})
    changed = await fetch(plane, node, again["sequence"])
    assert (changed["sequence"] > again["sequence"], opened(node, changed)) == (True, {"db/password": (2, b"new")})
    await plane.ok("POST", f"{PATH}/grants/delete", {"scope": "db", "target": {"all": True}})
    assert opened(node, await fetch(plane, node)) == {}, "whatever it says that it holds"
    assert opened(node, await fetch(plane, node, changed["sequence"])) == {}


async def test_another_nodes_bundle_does_not_open(plane: RunningControlPlane):
    await with_secret(plane)
    one, two = await confirmed(plane, "vm-1"), await confirmed(plane, "vm-2")
    await grant(plane, all=True)
    answer = await fetch(plane, one)
    with pytest.raises(SealingError):
        opened(two, answer)
    with pytest.raises(SealingError):
        opened(one, answer | {"sequence": answer["sequence"] + 1})


async def test_before_the_confirmation_there_is_nothing(plane: RunningControlPlane):
    await with_secret(plane)
    node = await enrolled(plane)
    await grant(plane, all=True)
    refused = await plane.call("POST", FETCH, {"sealing_key": SEALING_KEY}, identity=node.identity)
    assert (refused.status, refused.error_code) == (403, "PERMISSION_DENIED")
    await plane.ok("POST", "/api/2.0/bootstrap/confirm", {}, identity=node.identity)
    assert opened(node, await fetch(plane, node))


async def test_a_new_bootstrap_is_given_nothing_before_its_own_confirmation(plane: RunningControlPlane):
    await with_secret(plane)
    node, key = await confirmed(plane), generate_key()
    await grant(plane, all=True)
    issuance, now = plane.control_plane.identities.issuance, plane.foundation.clock.now()
    async with plane.database.write() as session:
        row = await session.get(Node, node.node_id)
        assert row is not None
        csr = build_csr(key)
        anew = await issuance.node_certificate(session, row, csr, origin="bootstrap", sealing_key=SEALING_KEY, now=now)
    node = EnrolledNode(node.answer, Identity(key, CertificateChain.from_pem(anew.chain)))
    refused = await plane.call("POST", FETCH, {"sealing_key": SEALING_KEY}, identity=node.identity)
    assert refused.status == 403
    await plane.ok("POST", "/api/2.0/bootstrap/confirm", {}, identity=node.identity)
    assert opened(node, await fetch(plane, node)) == {"db/password": (1, b"hunter2")}


async def test_what_is_taken_away_while_it_is_sealed_is_not_handed(plane: RunningControlPlane):
    await with_secret(plane)
    node = await confirmed(plane)
    await grant(plane, all=True)

    class SlowVault:
        """The vault, during whose work an operator takes the grant away."""

        async def open(self, *wanted: Any) -> list[bytes]:
            values = await plane.control_plane.secrets.vault.open(*wanted)
            await plane.ok("POST", f"{PATH}/grants/delete", {"scope": "db", "target": {"all": True}})
            return values

    bundles = Bundles(
        database=plane.database,
        vault=SlowVault(),  # type: ignore[arg-type]
        trust_domain=TRUST_DOMAIN,
        metrics=ControlPlaneMetrics(CollectorRegistry()),
        clock=plane.foundation.clock,
    )
    place = node.node_id, node.workspace_id, node.identity.serial
    handed = await bundles.hand(*place, sealing_key=SEALING_KEY, held=None, actor=Actor("test"))
    assert handed.sealed is None
    assert not await plane.audit(action="secret.deliver")


async def test_only_to_the_key_on_record_and_only_to_a_node_that_lives(plane: RunningControlPlane):
    await with_secret(plane)
    node = await confirmed(plane)
    await grant(plane, all=True)
    other = write_sealing_key(X25519PrivateKey.generate().public_key())
    assert (await plane.call("POST", FETCH, {"sealing_key": other}, identity=node.identity)).status == 409
    assert (await plane.call("POST", FETCH, {"sealing_key": "x"}, identity=node.identity)).status == 400
    assert (await plane.call("POST", FETCH, {"sealing_key": SEALING_KEY}, token=None)).status == 401
    assert (await plane.call("POST", FETCH, {"sealing_key": SEALING_KEY})).status == 401
    forged = plane.forged_node(node.workspace_id)
    assert (await plane.call("POST", FETCH, {"sealing_key": SEALING_KEY}, identity=forged)).status == 401
    await plane.ok("POST", "/api/2.0/revocations", {"kind": "node", "id": node.node_id})
    assert (await plane.call("POST", FETCH, {"sealing_key": SEALING_KEY}, identity=node.identity)).status == 401


@pytest.mark.parametrize("kind", ["node", "workspace", "certificate"])
async def test_what_is_locked_gets_no_secrets_until_it_is_unlocked(plane: RunningControlPlane, kind: str):
    await with_secret(plane)
    node = await confirmed(plane)
    await grant(plane, all=True)
    name = {"node": node.node_id, "workspace": node.workspace_id, "certificate": node.identity.serial}[kind]
    lock = {"kind": kind, "id": name, "lifetime_seconds": 600, "reason": "it looks odd"}
    lock_id = (await plane.ok("POST", "/api/2.0/locks", lock))["lock_id"]
    answer = await plane.call("POST", FETCH, {"sealing_key": SEALING_KEY}, identity=node.identity)
    assert (answer.status, answer.document["message"]) == (403, f"this {kind} is locked")
    assert "sealed" not in answer.document
    await plane.ok("DELETE", f"/api/2.0/locks/{lock_id}")
    assert opened(node, await fetch(plane, node)) == {"db/password": (1, b"hunter2")}


async def test_a_confirmation_while_locked_opens_no_way_to_secrets(plane: RunningControlPlane):
    """A node that is locked may renew and confirm, so that it is there when the lock ends."""
    await with_secret(plane)
    node = await enrolled(plane)
    await grant(plane, all=True)
    lock = {"kind": "node", "id": node.node_id, "lifetime_seconds": 600, "reason": "it looks odd"}
    await plane.ok("POST", "/api/2.0/locks", lock)
    await plane.ok("POST", "/api/2.0/bootstrap/confirm", {}, identity=node.identity)
    answer = await plane.call("POST", FETCH, {"sealing_key": SEALING_KEY}, identity=node.identity)
    assert (answer.status, answer.document["message"]) == (403, "this node is locked")


async def test_what_a_locked_node_used_is_still_recorded(plane: RunningControlPlane):
    await with_secret(plane)
    node = await confirmed(plane)
    await grant(plane, all=True)
    handed = await fetch(plane, node)
    lock = {"kind": "node", "id": node.node_id, "lifetime_seconds": 600, "reason": "it looks odd"}
    await plane.ok("POST", "/api/2.0/locks", lock)
    await report(plane, node, handed["sequence"], held={"db/password": 1})
    assert [one["state"] for one in await adoption(plane)] == ["adopted"]


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ({"node": "vm-2"}, {"vm-2"}),
        ({"cluster": "web"}, {"vm-1"}),
        ({"selector": {"role": "db"}}, {"vm-2"}),
        ({"selector": {"role": "db", "zone": "b"}}, set()),
        ({"all": True}, {"vm-1", "vm-2"}),
    ],
)
async def test_ways_of_granting(plane: RunningControlPlane, target, names):
    await with_secret(plane)
    nodes = {
        "vm-1": await confirmed(plane, "vm-1", labels={"role": "web"}),
        "vm-2": await confirmed(plane, "vm-2", labels={"role": "db", "zone": "a"}),
    }
    await plane.ok("POST", "/w/finance/api/2.0/clusters", {"cluster": "web", "nodes": ["vm-1"]})
    await grant(plane, **target)
    await grant(plane, **target)
    [listed] = (await plane.ok("GET", f"{PATH}/grants/list?scope=db"))["grants"]
    assert listed["target"] == target
    handed = {name for name, node in nodes.items() if "sealed" in await fetch(plane, node)}
    assert handed == names
    assert {view["node"] for view in await adoption(plane)} == names
    await plane.ok("POST", f"{PATH}/grants/delete", {"scope": "db", "target": target})
    assert (await plane.call("POST", f"{PATH}/grants/delete", {"scope": "db", "target": target})).status == 404


async def test_a_node_that_leaves_the_cluster_loses_the_secret(plane: RunningControlPlane):
    await with_secret(plane)
    node = await confirmed(plane)
    await plane.ok("POST", "/w/finance/api/2.0/clusters", {"cluster": "web", "nodes": ["vm-1"]})
    await grant(plane, cluster="web")
    answer = await fetch(plane, node)
    await report(plane, node, answer["sequence"], held={"db/password": 1})
    await plane.ok("PATCH", "/w/finance/api/2.0/clusters/web", {"remove": ["vm-1"]})
    [view] = await adoption(plane)
    assert (view["state"], view["granted"]) == ("leaving", False)
    assert opened(node, await fetch(plane, node, answer["sequence"])) == {}


@pytest.mark.parametrize(
    "target", [{}, {"node": "vm-1", "all": True}, {"all": False}, {"node": "none"}, {"cluster": "x"}]
)
async def test_grants_that_are_none(plane: RunningControlPlane, target):
    await with_secret(plane)
    answer = await plane.call("POST", f"{PATH}/grants/put", {"scope": "db", "target": target})
    assert answer.status in (400, 404)


async def test_adoption_is_what_nodes_say_they_hold(plane: RunningControlPlane):
    await with_secret(plane)
    node = await confirmed(plane)
    await grant(plane, node="vm-1")
    [view] = await adoption(plane)
    assert (view["state"], "version" in view) == ("waiting", False)
    answer = await fetch(plane, node)
    assert (await adoption(plane))[0]["state"] == "waiting", "handed is not held"
    await report(plane, node, answer["sequence"], held={"db/password": 1})
    assert [(one["state"], one["version"]) for one in await adoption(plane)] == [("adopted", 1)]
    await plane.ok("POST", f"{PATH}/put", {"scope": "db", "key": "password", "string_value": "new"})
    assert [(one["state"], one["version"]) for one in await adoption(plane)] == [("waiting", 1)]
    answer = await fetch(plane, node, answer["sequence"])
    await report(plane, node, answer["sequence"], held={"db/password": 2})
    assert [(one["state"], one["version"]) for one in await adoption(plane)] == [("adopted", 2)]
    lost = await fetch(plane, node)
    await report(plane, node, answer["sequence"], report_id="late", held={})
    assert (await adoption(plane))[0]["state"] == "waiting", "whoever asks again has lost what it had"
    for number in range(2):
        await report(plane, node, lost["sequence"], report_id=f"again-{number}", held={"db/password": 2})
    assert (await adoption(plane))[0]["state"] == "adopted"
    assert len(await plane.audit(action="secret.adopt")) == 3
    await report(plane, node, lost["sequence"], report_id="r-2", accepts=False)
    assert (await adoption(plane))[0]["state"] == "refused"


async def test_an_owner_who_keeps_a_scope_out_is_seen_to(plane: RunningControlPlane):
    await with_secret(plane)
    node = await confirmed(plane)
    await grant(plane, node="vm-1")
    answer = await fetch(plane, node)
    await report(plane, node, answer["sequence"], held={})
    assert (await adoption(plane))[0]["state"] == "refused"


async def test_uses_are_audited_once_however_often_they_are_reported(plane: RunningControlPlane):
    node = await confirmed(plane)
    use = {
        "secret": "db/password",
        "version": 1,
        "command_id": "c-1",
        "submitted_by": "operator/x",
        "way": "file",
        "time": 5,
    }
    for _ in range(3):
        await report(plane, node, 0, uses=[use], uses_dropped=4)
    used, dropped = sorted(await plane.audit(action="secret.use"), key=lambda event: event["outcome"], reverse=True)
    assert (used["resource"], used["details"]["command_id"], used["details"]["node"]) == ("db/password", "c-1", "vm-1")
    assert (dropped["outcome"], dropped["details"]["count"]) == ("dropped", 4)
    await report(plane, node, 0, report_id="r-2", uses=[use])
    assert len(await plane.audit(action="secret.use", outcome="ok")) == 2
    await report(plane, node, 0, report_id="r-3", uses=[{**use, "way": "socket"}])
    assert len(await plane.audit(action="secret.use", outcome="ok")) == 3, "a way of a later release is one too"


@pytest.mark.parametrize(
    "fields",
    [
        {"report_id": "x" * 65},
        {"held": {"no name": 1}},
        {"held": {f"s/k{number}": 1 for number in range(1001)}},
        {"sequence": -1},
        {"uses": [{"secret": "s/k"}]},
        {"uses_dropped": "many"},
    ],
)
async def test_reports_that_are_none(plane: RunningControlPlane, fields):
    node = await confirmed(plane)
    body = {"report_id": "r-1", "sequence": 0, "held": {}, **fields}
    assert (await plane.call("POST", f"{FETCH}/report", body, identity=node.identity)).status == 400


async def test_deliveries_are_audited_by_name_and_version(plane: RunningControlPlane):
    await with_secret(plane)
    node = await confirmed(plane)
    await grant(plane, all=True)
    answer = await fetch(plane, node)
    await report(plane, node, answer["sequence"], held={"db/password": 1})
    [event] = await plane.audit(action="secret.deliver")
    assert (event["resource"], event["details"]["secrets"]) == ("vm-1", ["db/password@1"])
    assert len(await plane.audit(action="secret.adopt")) == 1
    assert "hunter2" not in json.dumps(await plane.audit())


async def test_no_number_is_given_twice(plane: RunningControlPlane):
    await with_secret(plane)
    node = await confirmed(plane)
    await grant(plane, all=True)
    answers = await asyncio.gather(*(fetch(plane, node) for _ in range(30)))
    assert len({answer["sequence"] for answer in answers}) == 30
    assert all(opened(node, answer) == {"db/password": (1, b"hunter2")} for answer in answers)
