"""Late renewals of relays: who comes back by the key alone, and who does not."""

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from certs.chains import CertificateChain
from certs.identities import Identity, build_csr
from certs.keyfiles import generate_key
from certs.late_renewal import sign_late_renewal
from control_plane.identity.renewals import Renewals
from control_plane.storage.audit import Actor
from tests.control_plane.api.test_bootstrap import OffsetClock
from tests.support.control_planes import Answer, RunningControlPlane, running_control_plane

PATH = "/api/2.0/relays/late-renewal"
DAY = 86400
LIFE = 7 * DAY


@pytest.fixture
def clock() -> OffsetClock:
    return OffsetClock()


@pytest.fixture
async def plane(tmp_path: Path, clock: OffsetClock):
    async with running_control_plane(tmp_path, clock=clock) as running:
        yield running


async def ask(plane: RunningControlPlane, identity: Identity, path: str = PATH, **changes: Any) -> Answer:
    csr = build_csr(generate_key())
    text = sign_late_renewal(identity, nonce=await plane.nonce(), csr=csr)
    return await plane.call("POST", path, {"request": text, "csr": csr, **changes}, token=None)


@pytest.mark.parametrize("days", [0.1, 15, 29.9])
async def test_a_relay_comes_back_by_its_key(plane: RunningControlPlane, clock: OffsetClock, days: float):
    relay = await plane.relay()
    clock.offset = LIFE + days * DAY
    answer = await ask(plane, relay.identity)
    chain = CertificateChain.from_pem(answer.document["certificate_chain"])
    assert chain.spiffe_id == relay.identity.spiffe_id
    names = chain.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["relay-1.test"]
    assert chain.not_after > clock.now() + LIFE - 10
    assert answer.document["trust_document"] == plane.control_plane.identities.trust.text
    [event] = await plane.audit(action="relay.late_renewal")
    assert event["details"] == {"by_certificate": relay.identity.serial, "certificate": chain.serial}


async def test_a_request_is_good_once(plane: RunningControlPlane, clock: OffsetClock):
    relay = await plane.relay()
    clock.offset = LIFE + DAY
    csr = build_csr(generate_key())
    body = {"request": sign_late_renewal(relay.identity, nonce=await plane.nonce(), csr=csr), "csr": csr}
    assert (await plane.call("POST", PATH, body, token=None)).status == 200
    again = await plane.call("POST", PATH, body, token=None)
    assert (again.status, "nonce" in again.document["message"]) == (401, True)


@pytest.mark.parametrize(
    ("ending", "why"),
    [
        ("deleted", "revoked|not signed"),
        ("revoked", "revoked"),
        ("window", "more than 30 days"),
        ("newer", "newer key"),
    ],
)
async def test_who_stays_out(plane: RunningControlPlane, clock: OffsetClock, ending: str, why: str):
    relay = await plane.relay()
    if ending == "deleted":
        await plane.ok("DELETE", f"{plane.account}/relays/{relay.relay_id}")
    elif ending == "revoked":
        await plane.ok("POST", "/api/2.0/revocations", {"kind": "certificate", "id": relay.identity.serial})
    elif ending == "newer":
        clock.offset = 1.0
        key = generate_key()
        renewed = await plane.ok("POST", "/api/2.0/relays/self/renew", {"csr": build_csr(key)}, identity=relay.identity)
        chain = CertificateChain.from_pem(renewed["certificate_chain"])
        renewals = Renewals(
            database=plane.database, issuance=plane.control_plane.identities.issuance, clock=plane.foundation.clock
        )
        await renewals.confirm_relay(relay.relay_id, chain.serial, Actor("test"))
    clock.offset = LIFE + (31 * DAY if ending == "window" else DAY)
    answer = await ask(plane, relay.identity)
    assert answer.status == 401
    assert any(word in answer.document["message"] for word in why.split("|")), answer


async def test_a_node_is_no_relay_and_a_relay_no_node(plane: RunningControlPlane, clock: OffsetClock):
    relay, node = await plane.relay(), await plane.node()
    clock.offset = LIFE + DAY
    for answer in (
        await ask(plane, node.identity),
        await ask(plane, relay.identity, "/api/2.0/nodes/late-renewal", agent_version="1"),
        await ask(plane, plane.forged_relay()),
    ):
        assert answer.status == 401
        assert "not signed by the key of a" in answer.document["message"]


async def test_the_key_is_on_record_for_as_long_as_it_is_good(plane: RunningControlPlane, clock: OffsetClock):
    relay = await plane.relay()
    clock.offset = LIFE + 29 * DAY
    await plane.control_plane.housekeeping.clean()
    assert (await ask(plane, relay.identity)).status == 200
