"""Relays: enrolment exactly once, where they listen, renewal, ending."""

from pathlib import Path

import pytest

from certs.chains import CertificateChain
from certs.identities import build_csr
from certs.keyfiles import generate_key
from control_plane.storage import relays
from tests.control_plane.test_housekeeping import OffsetClock
from tests.support.control_planes import RunningControlPlane, running_control_plane

ENROL = "/api/2.0/relays/enrol"


async def join_token(plane: RunningControlPlane, name: str = "relay-1") -> str:
    body = {"name": name, "dns_names": ["localhost", "relay.example"], "lifetime_seconds": 600}
    return str((await plane.ok("POST", f"{plane.account}/relay-join-tokens", body))["join_token"])


async def test_enrol(plane: RunningControlPlane):
    body = {"join_token": await join_token(plane), "csr": build_csr(generate_key()), "name": "relay-1"}
    answer = await plane.ok("POST", ENROL, body, token=None)
    chain = CertificateChain.from_pem(answer["certificate_chain"])
    assert str(chain.spiffe_id) == f"spiffe://trunkline.test/relay/{answer['relay_id']}"
    assert answer["dns_names"] == ["localhost", "relay.example"]
    assert (await plane.ok("POST", ENROL, body, token=None)) == answer
    other = body | {"csr": build_csr(generate_key())}
    refused = await plane.call("POST", ENROL, other, token=None)
    assert (refused.status, refused.error_code) == (409, "RESOURCE_CONFLICT")


async def test_a_join_token_makes_no_relay_once_it_has_expired(tmp_path: Path):
    clock = OffsetClock()
    async with running_control_plane(tmp_path, clock=clock) as plane:
        body = {"join_token": await join_token(plane), "csr": build_csr(generate_key()), "name": "relay-1"}
        clock.offset = 601
        refused = await plane.call("POST", ENROL, body, token=None)
        assert (refused.status, refused.error_code) == (401, "UNAUTHENTICATED")
        assert (await plane.ok("GET", f"{plane.account}/relays"))["relays"] == []


async def test_where_it_listens(plane: RunningControlPlane):
    relay = await plane.relay("relay-1", port=None)
    [shown] = (await plane.ok("GET", f"{plane.account}/relays"))["relays"]
    assert "url" not in shown
    await plane.ok("PUT", "/api/2.0/relays/self", {"port": 8443}, identity=relay.identity)
    await plane.ok("PUT", "/api/2.0/relays/self", {"port": 9443, "later": 1}, identity=relay.identity)
    [shown] = (await plane.ok("GET", f"{plane.account}/relays"))["relays"]
    assert shown["url"] == "https://relay-1.test:9443"
    for port in (0, 65536, "443", None):
        answer = await plane.call("PUT", "/api/2.0/relays/self", {"port": port}, identity=relay.identity)
        assert answer.status == 400


async def test_a_wildcard_is_no_address(plane: RunningControlPlane):
    asked = {"name": "relay-1", "dns_names": ["*.relay.test", "relay.test"], "lifetime_seconds": 600}
    answer = await plane.call("POST", f"{plane.account}/relay-join-tokens", asked)
    assert (answer.status, answer.error_code) == (400, "INVALID_PARAMETER_VALUE")
    await plane.ok("POST", f"{plane.account}/relay-join-tokens", asked | {"dns_names": ["relay.test", "*.relay.test"]})


@pytest.mark.parametrize(
    ("names", "url"), [(["*.relay.test", "relay.test"], "https://relay.test:8443"), (["*.relay.test"], None)]
)
async def test_where_one_listens_that_was_given_a_wildcard_first(
    plane: RunningControlPlane, names: list[str], url: str | None
):
    relay = await plane.relay(port=None)
    async with plane.database.write() as session:
        record = await relays.find(session, relay.relay_id)
        assert record is not None
        record.dns_names = names
    placed = await plane.call("PUT", "/api/2.0/relays/self", {"port": 8443}, identity=relay.identity)
    assert placed.status == (409 if url is None else 200)
    [shown] = (await plane.ok("GET", f"{plane.account}/relays"))["relays"]
    assert shown.get("url") == url


async def test_renew(plane: RunningControlPlane):
    relay = await plane.relay()
    csr = build_csr(generate_key())
    first = await plane.ok("POST", "/api/2.0/relays/self/renew", {"csr": csr}, identity=relay.identity)
    assert first == await plane.ok("POST", "/api/2.0/relays/self/renew", {"csr": csr}, identity=relay.identity)
    assert CertificateChain.from_pem(first["certificate_chain"]).spiffe_id == relay.identity.chain.spiffe_id


async def test_a_name_is_one_relays(plane: RunningControlPlane):
    relay = await plane.relay("relay-1")
    body = {"join_token": await join_token(plane), "csr": build_csr(generate_key()), "name": "relay-1"}
    assert (await plane.call("POST", ENROL, body, token=None)).status == 409
    await plane.ok("DELETE", f"{plane.account}/relays/{relay.relay_id}")
    answer = await plane.ok("POST", ENROL, body, token=None)
    assert answer["relay_id"] != relay.relay_id
    revoked = (await plane.ok("GET", "/api/2.0/revocations"))["revocations"]
    assert [(one["kind"], one["id"]) for one in revoked] == [("certificate", relay.identity.chain.serial)]


async def test_a_relay_is_deleted_by_its_name_too(plane: RunningControlPlane):
    relay, other = await plane.relay("relay-1"), await plane.relay("relay-2")
    await plane.ok("DELETE", f"{plane.account}/relays/relay-1")
    assert [one["relay_id"] for one in (await plane.ok("GET", f"{plane.account}/relays"))["relays"]] == [other.relay_id]
    [revoked] = (await plane.ok("GET", "/api/2.0/revocations"))["revocations"]
    assert revoked["id"] == relay.identity.chain.serial
    assert (await plane.call("DELETE", f"{plane.account}/relays/relay-1")).status == 404


@pytest.mark.parametrize(
    "body",
    [
        {"name": "Relay", "dns_names": ["a.b"], "lifetime_seconds": 60},
        {"name": "r", "dns_names": [], "lifetime_seconds": 60},
        {"name": "r", "dns_names": ["A.B"], "lifetime_seconds": 60},
        {"name": "r", "dns_names": ["a b"], "lifetime_seconds": 60},
        {"name": "r", "dns_names": [f"h{n}" for n in range(17)], "lifetime_seconds": 60},
        {"name": "r", "dns_names": ["a.b"], "lifetime_seconds": 0},
        {"name": "r", "dns_names": ["a.b"]},
        {"name": "r", "dns_names": ["a.b"], "lifetime_seconds": 60, "x": 1},
    ],
)
async def test_bad_join_tokens(plane: RunningControlPlane, body: dict[str, object]):
    answer = await plane.call("POST", f"{plane.account}/relay-join-tokens", body)
    assert (answer.status, answer.error_code) == (400, "INVALID_PARAMETER_VALUE")


async def test_each_wrong_dns_name_is_told_by_its_place_and_none_is_repeated(plane: RunningControlPlane):
    body = {"name": "r", "dns_names": ["a.b", "canary..b", "Canary.b"], "lifetime_seconds": 60}
    answer = await plane.call("POST", f"{plane.account}/relay-join-tokens", body)
    assert [one["field"] for one in answer.document["details"]] == ["dns_names.1", "dns_names.2"]
    assert "canary" not in str(answer.document).lower()


@pytest.mark.parametrize(
    ("change", "status"),
    [({"join_token": "tlr-wrong"}, 401), ({"name": "relay-2"}, 400), ({"csr": "x"}, 400), ({"more": 1}, 200)],
)
async def test_bad_enrolments(plane: RunningControlPlane, change: dict[str, object], status: int):
    body = {"join_token": await join_token(plane), "csr": build_csr(generate_key()), "name": "relay-1"}
    assert (await plane.call("POST", ENROL, body | change, token=None)).status == status
