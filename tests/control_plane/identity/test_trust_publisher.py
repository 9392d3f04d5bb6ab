"""The publisher: what others have recorded is published too, and one bad record keeps nothing from being published."""

import asyncio
import time
from typing import NoReturn, cast

import pytest
from structlog.testing import capture_logs

from certs.authority import Authority
from certs.errors import CertificateError
from certs.trust import TrustDocument, TrustStore, verify_first_trust_document
from control_plane.storage import accounts, relays, revocations
from control_plane.storage.records.relays import Relay
from tests.control_plane.storage.test_plans import statements
from tests.support.control_planes import RunningControlPlane


class NoModule:
    """An authority whose key is out of reach."""

    def issue_control_plane(self, *_: object, **__: object) -> NoReturn:
        raise CertificateError("the module does not answer")


def published(plane: RunningControlPlane) -> TrustDocument:
    return verify_first_trust_document(plane.control_plane.identities.trust.text, plane.foundation.clock.now())


async def revoke(plane: RunningControlPlane, token_id: str) -> int:
    """Revoke a token as another process would."""
    now_ms = int(plane.foundation.clock.now() * 1000)
    async with plane.database.write() as session:
        return await revocations.revoke(
            session, "token", token_id, expire_time=now_ms + 10**9, revoked_by="x", now_ms=now_ms
        )


async def test_what_another_process_has_revoked_is_published(plane: RunningControlPlane):
    trust = plane.control_plane.identities.trust
    before = trust.text
    await trust.look()
    assert trust.text == before
    sequence = await revoke(plane, "t")
    await trust.look()
    assert trust.sequence == sequence
    assert "t" in published(plane).revocations.token_ids


async def test_a_control_plane_whose_certificate_is_locked_has_another(plane: RunningControlPlane):
    identity, lock = plane.control_plane.identities.own, {"kind": "certificate", "lifetime_seconds": 60, "reason": "x"}
    locked = identity.svid.serial
    await plane.ok("POST", "/api/2.0/locks", {**lock, "id": locked})
    assert identity.svid.serial != locked


async def test_a_certificate_that_could_not_be_replaced_is_replaced_as_soon_as_it_can_be(plane: RunningControlPlane):
    identities, signers = plane.control_plane.identities, plane.foundation.signers
    trust, identity, authority = identities.trust, identities.own, signers.authority
    revoked = identity.svid.serial
    signers._authority = cast(Authority, NoModule())
    with capture_logs() as lines:
        await plane.ok("POST", "/api/2.0/revocations", {"kind": "certificate", "id": revoked})
    assert (identity.svid.serial, lines[0]["event"]) == (revoked, "identity.not_renewed")
    signers._authority = authority
    await trust.look()
    assert identity.svid.serial != revoked
    assert TrustStore().replace(trust.text, time.time())
    text = trust.text
    await trust.look()
    assert trust.text == text


async def test_a_control_plane_whose_certificate_is_revoked_signs_with_another(plane: RunningControlPlane):
    trust, identity, now = plane.control_plane.identities.trust, plane.control_plane.identities.own, time.time()
    held, revoked = TrustStore(), identity.svid.serial
    held.replace(trust.text, now)
    for kind, name in (("certificate", revoked), ("token", "t")):
        await plane.ok("POST", "/api/2.0/revocations", {"kind": kind, "id": name})
        assert held.replace(trust.text, now)
    assert revoked in published(plane).revocations.certificates
    assert identity.svid.serial != revoked


async def test_many_who_revoke_at_once_are_served_by_two_documents(plane: RunningControlPlane):
    trust = plane.control_plane.identities.trust
    await revoke(plane, "t")
    async with statements(plane) as gathered:
        await asyncio.gather(*(trust.refresh() for _ in range(10)))
    assert sum("FROM revocations" in statement for statement, _ in gathered) == 2
    assert "t" in published(plane).revocations.token_ids


async def test_two_that_do_not_agree_do_not_drive_the_number_up(plane: RunningControlPlane):
    """Another process, with other settings, has published another document under the next number, each time anew."""
    trust = plane.control_plane.identities.trust
    numbers = []
    for _ in range(3):
        async with plane.database.write() as session:
            await accounts.next_trust_sequence(session, 1)
            (await accounts.the_account(session)).trust_fingerprint = "another"
        await trust.look()
        numbers.append(trust.sequence)
    assert len(set(numbers)) == 1
    await plane.ok("POST", "/api/2.0/revocations", {"kind": "token", "id": "t"})
    assert "t" in published(plane).revocations.token_ids


@pytest.mark.parametrize("url", ["https://*.relay.test:443", "http://relay.test", "https://relay.test/path"])
async def test_an_address_that_no_document_can_name_keeps_no_revocation_back(plane: RunningControlPlane, url: str):
    relay = await plane.relay("relay-1")
    await plane.relay("relay-2")
    async with plane.database.write() as session:
        record = await relays.find(session, relay.relay_id)
        assert isinstance(record, Relay)
        record.url = url
    await plane.ok("POST", "/api/2.0/revocations", {"kind": "token", "id": "t"})
    document = published(plane)
    assert "t" in document.revocations.token_ids
    assert document.relays == ("https://relay-2.test:443",)
    await plane.control_plane.housekeeping.clean()


@pytest.mark.parametrize("loop", ["rotations", "housekeeping"])
async def test_a_document_that_cannot_be_signed_ends_nothing(
    plane: RunningControlPlane, monkeypatch: pytest.MonkeyPatch, loop: str
):
    monkeypatch.setattr("certs.trust.MAX_DOCUMENT_BYTES", 100)
    monkeypatch.setattr("control_plane.rotation.rotations.LOOK_SECONDS", 0.0)
    monkeypatch.setattr("control_plane.housekeeping.PAUSE_SECONDS", 0.0)
    await revoke(plane, "t")
    control_plane = plane.control_plane
    work = control_plane.rotations.keep() if loop == "rotations" else control_plane.housekeeping.run()
    with capture_logs() as lines:
        running = asyncio.ensure_future(work)
        async with asyncio.timeout(30):
            while len(lines) < 2 and not running.done():  # noqa: ASYNC110 - a log has no event
                await asyncio.sleep(0)
    assert not running.done()
    running.cancel()
    assert {line["event"] for line in lines} <= {"trust.not_published", "housekeeping.failed"}
