"""A database that was restored from a backup takes back what it has forgotten, from whoever still holds it."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from certs.chains import CertificateChain
from certs.identities import Identity, build_csr
from certs.keyfiles import generate_key
from certs.trust import (
    Revocations,
    TrustDocument,
    TrustStore,
    fingerprint_of_text,
    sign_trust_document,
    verify_trust_document,
)
from control_plane.storage import certificates
from tests.support.control_planes import EnrolledRelay, RunningControlPlane, running_control_plane
from tests.support.identities import IdentityKit

HELD = "/api/2.0/trust-document/held"
EVENTS = "/api/2.0/trust-document/events"
NODE = "nd-" + "a" * 20


async def revoke(plane: RunningControlPlane, name: str) -> int:
    return int((await plane.ok("POST", "/api/2.0/revocations", {"kind": "token", "id": name}))["sequence"])


async def lock(plane: RunningControlPlane, name: str = NODE) -> dict[str, Any]:
    body = {"kind": "node", "id": name, "lifetime_seconds": 3600, "reason": "odd"}
    return await plane.ok("POST", "/api/2.0/locks", body)


def text(plane: RunningControlPlane) -> str:
    return plane.control_plane.identities.trust.text


def document(plane: RunningControlPlane) -> TrustDocument:
    return verify_trust_document(text(plane), plane.authority.roots, plane.foundation.clock.now())


async def follow(plane: RunningControlPlane, relay: EnrolledRelay, sequence: int, held: str) -> int:
    path = f"{EVENTS}?sequence={sequence}&fingerprint={fingerprint_of_text(held)}"
    response = await plane.session(relay.identity).get(plane.url + path)
    response.close()
    return response.status


async def test_a_restored_database_takes_back_revocations_and_locks_and_goes_beyond_the_number(tmp_path: Path):
    backup = tmp_path / "backup"
    async with running_control_plane(tmp_path) as plane:
        relay = await plane.relay()
        await revoke(plane, "before")
    shutil.copytree(tmp_path / "state", backup)
    async with running_control_plane(tmp_path) as plane:
        for number in range(3):
            await revoke(plane, f"lost-{number}")
        await lock(plane)
        lifted = await lock(plane, "nd-" + "b" * 20)
        await plane.ok("DELETE", f"/api/2.0/locks/{lifted['lock_id']}")
        held, at = text(plane), document(plane).sequence
    shutil.rmtree(tmp_path / "state")
    shutil.copytree(backup, tmp_path / "state")
    async with running_control_plane(tmp_path) as plane:
        assert set(document(plane).revocations.token_ids) == {"before"}
        # Changes made before any relay is back use up the very numbers that are lost.
        for number in range(9):
            await revoke(plane, f"after-{number}")
        assert document(plane).sequence > at
        assert await follow(plane, relay, at, held) == 409
        answer = await plane.ok("POST", HELD, {"trust_document": held}, identity=relay.identity)
        now = document(plane)
        assert now.sequence == answer["sequence"] > at
        expected = {"before", *(f"lost-{n}" for n in range(3)), *(f"after-{n}" for n in range(9))}
        assert set(now.revocations.token_ids) == expected
        assert [(one.kind, one.id) for one in now.locks] == [("node", NODE)]
        [event] = await plane.audit(action="trust_document.take_back")
        assert event["details"]["revocations"] == 3
        assert event["details"]["locks"] == 1
        # The relay, which holds the lost document, takes the new one.
        store = TrustStore(None)
        store.replace(held, plane.foundation.clock.now())
        assert store.replace(text(plane), plane.foundation.clock.now())
        # Handed over again, it changes nothing.
        again = await plane.ok("POST", HELD, {"trust_document": held}, identity=relay.identity)
        assert again["sequence"] == now.sequence
        assert len(await plane.audit(action="trust_document.take_back")) == 1
        assert await follow(plane, relay, now.sequence, text(plane)) == 200
        [taken] = (await plane.ok("GET", "/api/2.0/locks"))["locks"]
        await plane.ok("DELETE", f"/api/2.0/locks/{taken['lock_id']}")
        assert document(plane).locks == ()


async def test_what_it_published_itself_is_known_across_restarts(tmp_path: Path):
    async with running_control_plane(tmp_path) as plane:
        relay = await plane.relay()
        seen = {}
        for number in range(3):
            await revoke(plane, f"jti-{number}")
            seen[document(plane).sequence] = text(plane)
    async with running_control_plane(tmp_path) as plane:
        for sequence, held in seen.items():
            assert await follow(plane, relay, sequence, held) == 200
        made_up = "0" * 64
        path = f"{EVENTS}?sequence={max(seen)}&fingerprint={made_up}"
        response = await plane.session(relay.identity).get(plane.url + path)
        assert response.status == 409
        response.close()


async def test_an_old_document_never_brings_a_lifted_lock_back(plane: RunningControlPlane):
    relay = await plane.relay()
    made = await lock(plane)
    held = text(plane)
    await plane.ok("DELETE", f"/api/2.0/locks/{made['lock_id']}")
    before = document(plane).sequence
    await plane.ok("POST", HELD, {"trust_document": held}, identity=relay.identity)
    assert document(plane).locks == ()
    assert document(plane).sequence == before


def forged(plane: RunningControlPlane, signer: Identity, sequence: int, **changes: Any) -> str:
    now = document(plane)
    fields: dict[str, Any] = {
        "trust_domain": now.trust_domain,
        "sequence": sequence,
        "issued_at": now.issued_at,
        "roots": now.roots,
        "token_keys": now.token_keys,
        "revocations": Revocations(workspaces=frozenset({"ws-" + "a" * 20})),
        **changes,
    }
    return sign_trust_document(TrustDocument(**fields), signer)


async def test_only_a_genuine_document_is_taken_back(plane: RunningControlPlane, tmp_path: Path):
    relay = await plane.relay()
    stranger = IdentityKit(tmp_path, trust_domain=plane.settings.identity.trust_domain)
    own = plane.control_plane.identities.own.svid
    before = document(plane).sequence
    for body, status in [
        ("garbage", 400),
        (text(plane)[:-4] + "AAAA", 400),
        (forged(plane, stranger.control_plane, before + 5, roots=stranger.roots), 400),
        (forged(plane, own, before + 2_000_000), 409),
    ]:
        answer = await plane.call("POST", HELD, {"trust_document": body}, identity=relay.identity)
        assert answer.status == status, body[:40]
    assert document(plane).sequence == before
    assert document(plane).revocations.workspaces == frozenset()


async def test_keys_and_roots_are_never_taken_from_a_document(plane: RunningControlPlane, tmp_path: Path):
    """Even of one that is genuine: it may be older, and hold keys that were retired since."""
    relay = await plane.relay()
    kit = IdentityKit(tmp_path)
    before = document(plane)
    keys = (*before.token_keys, kit.token_key)
    held = forged(plane, plane.control_plane.identities.own.svid, before.sequence + 5, token_keys=keys)
    await plane.ok("POST", HELD, {"trust_document": held}, identity=relay.identity)
    after = document(plane)
    assert [key.key_id for key in after.token_keys] == [key.key_id for key in before.token_keys]
    assert after.revocations.workspaces == frozenset({"ws-" + "a" * 20})


async def test_nodes_may_hand_a_document_over_too(plane: RunningControlPlane):
    node = await plane.node("vm-1")
    held = forged(plane, plane.control_plane.identities.own.svid, document(plane).sequence + 5)
    path = "/api/2.0/nodes/self/held-trust-document"
    await plane.ok("POST", path, {"trust_document": held}, identity=node.identity)
    assert document(plane).revocations.workspaces == frozenset({"ws-" + "a" * 20})


@pytest.mark.parametrize("query", ["sequence=0&fingerprint=" + "0" * 64, "sequence=x", "fingerprint=zz"])
async def test_a_query_that_is_none_is_refused(plane: RunningControlPlane, query: str):
    relay = await plane.relay()
    response = await plane.session(relay.identity).get(f"{plane.url}{EVENTS}?{query}")
    assert response.status == 400
    response.close()


async def test_the_feed_of_a_relay_that_is_deleted_ends(plane: RunningControlPlane):
    relay = await plane.relay()
    response = await plane.session(relay.identity).get(plane.url + EVENTS)
    await response.content.readuntil(b"\n\n")
    await plane.ok("DELETE", f"{plane.account}/relays/{relay.relay_id}")
    rest = await response.content.read()
    assert b"trust_document" not in rest


async def test_what_a_revoked_certificate_was_renewed_into_before_it_was_heard_of_is_ended_too(tmp_path: Path):
    async with running_control_plane(tmp_path) as plane:
        relay, stolen, node = await plane.relay(), await plane.relay("relay-2"), await plane.node()
        odd = await plane.relay("relay-3")
    shutil.copytree(tmp_path / "state", tmp_path / "backup")
    async with running_control_plane(tmp_path) as plane:
        for identity in (stolen.identity, node.identity):
            await plane.ok("POST", "/api/2.0/revocations", {"kind": "certificate", "id": identity.serial})
        body = {"kind": "certificate", "id": odd.identity.serial, "lifetime_seconds": 3600, "reason": "odd"}
        await plane.ok("POST", "/api/2.0/locks", body)
        held = text(plane)
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "backup").rename(tmp_path / "state")
    async with running_control_plane(tmp_path) as plane:
        locked = {odd.identity.serial, (await renewed(plane, "relays", odd.identity)).serial}
        late = [await renewed(plane, "relays", stolen.identity), await renewed(plane, "nodes", node.identity)]
        late.append(await renewed(plane, "nodes", late[1]))
        honest = await renewed(plane, "relays", relay.identity)
        await plane.ok("POST", HELD, {"trust_document": held}, identity=relay.identity)
        ended = {stolen.identity.serial, node.identity.serial, *(one.serial for one in late)}
        assert set(document(plane).revocations.certificates) == ended
        assert honest.serial not in ended
        assert {one.id for one in document(plane).locks} == locked


async def renewed(plane: RunningControlPlane, who: str, identity: Identity) -> Identity:
    key = generate_key()
    answer = await plane.ok("POST", f"/api/2.0/{who}/self/renew", {"csr": build_csr(key)}, identity=identity)
    return Identity(key, CertificateChain.from_pem(answer["certificate_chain"]))


async def expire(plane: RunningControlPlane, serial: str, expire_time: int) -> None:
    async with plane.database.write() as session:
        certificate = await certificates.find(session, serial)
        assert certificate is not None
        certificate.expire_time = expire_time


async def test_certificates_that_expired_in_the_lost_time_are_good_for_no_late_renewal(plane: RunningControlPlane):
    """The document is of ten days after the backup."""
    relay = await plane.relay()
    nodes = [await plane.node(f"vm-{number}", workspace=f"w-{number}") for number in range(4)]
    now, day = int(plane.foundation.clock.now()), 86400
    for node, days in zip(nodes, (-1, 5, 9.5, 11), strict=True):
        await expire(plane, node.identity.serial, int((now + days * day) * 1000))
    own = plane.control_plane.identities.own.svid
    held = forged(plane, own, document(plane).sequence + 5, revocations=Revocations(), issued_at=now + 10 * day)
    await plane.ok("POST", HELD, {"trust_document": held}, identity=relay.identity)
    async with plane.database.read() as session:
        left = [await certificates.find(session, node.identity.serial) is not None for node in nodes]
    assert left == [True, False, True, True]
    [event] = await plane.audit(action="trust_document.take_back")
    assert event["details"]["doubtful_certificates"] == 2, "and the one that the relay had at the time of the backup"


async def test_a_revoked_certificate_that_has_expired_since_is_taken_back(plane: RunningControlPlane):
    relay, node = await plane.relay(), await plane.node()
    ago = int(plane.foundation.clock.now()) - 3600
    revoked = Revocations(certificates={node.identity.serial: ago}, token_ids={"jti-1": ago})
    own = plane.control_plane.identities.own.svid
    held = forged(plane, own, document(plane).sequence + 5, revocations=revoked)
    await plane.ok("POST", HELD, {"trust_document": held}, identity=relay.identity)
    taken = document(plane).revocations
    assert (set(taken.certificates), set(taken.token_ids)) == ({node.identity.serial}, set())


async def begin(plane: RunningControlPlane, path: str, identity: Identity) -> tuple[asyncio.StreamReader, Any]:
    """Begin to hand over a document that does not end."""
    reader, writer = await asyncio.open_connection(
        "localhost", plane.control_plane.listener.port, ssl=plane.client_tls(identity), server_hostname="localhost"
    )
    writer.write(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n{{".encode())
    return reader, writer


async def test_of_one_holder_one_document_is_read_at_a_time(plane: RunningControlPlane):
    relay, node = await plane.relay(), await plane.node("vm-1")
    paths = {HELD: relay.identity, "/api/2.0/nodes/self/held-trust-document": node.identity}
    for path, identity in paths.items():
        begun = [await begin(plane, path, identity) for _ in range(2)]
        answers = [asyncio.ensure_future(reader.readuntil(b"\r\n\r\n")) for reader, _ in begun]
        answered, waiting = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
        head = answered.pop().result()
        assert head.startswith(b"HTTP/1.1 429 ")
        assert b"\r\nRetry-After: 1\r\n" in head
        for _, writer in begun:
            writer.transport.abort()
        await asyncio.gather(*waiting, return_exceptions=True)
        body = {"trust_document": text(plane)}
        while (answer := await plane.call("POST", path, body, identity=identity)).status == 429:
            pass  # the one that was read has not ended yet
        assert answer.status == 200
