"""Late renewals: who comes back by the key alone, and who does not."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from certs.chains import CertificateChain
from certs.encoding import encode_base64url
from certs.identities import Identity, build_csr
from certs.keyfiles import generate_key
from certs.late_renewal import sign_late_renewal
from certs.tokens import TokenKind
from control_plane.identity.renewals import Renewals
from control_plane.storage.audit import Actor
from control_plane.storage.records.nodes import Node
from tests.control_plane.api.test_bootstrap import OffsetClock
from tests.support.control_planes import EnrolledNode, RunningControlPlane, running_control_plane, settings_for

PATH = "/api/2.0/nodes/late-renewal"
DAY = 86400
NEXT_SEALING_KEY = encode_base64url(b"t" * 32)


@pytest.fixture
def clock() -> OffsetClock:
    return OffsetClock()


@pytest.fixture
async def plane(tmp_path: Path, clock: OffsetClock):
    async with running_control_plane(tmp_path, clock=clock) as running:
        yield running


@dataclass
class Request:
    """What a node sends; `body` may be altered."""

    body: dict[str, Any]
    key: Any


async def request(plane: RunningControlPlane, identity: Identity, **signed: Any) -> Request:
    key = generate_key()
    asked = {"nonce": await plane.nonce(), "csr": build_csr(key), "sealing_key": NEXT_SEALING_KEY, **signed}
    text = sign_late_renewal(identity, **asked)
    return Request({"request": text, "csr": asked["csr"], "agent_version": "1.1"}, key)


async def refusal(plane: RunningControlPlane, body: dict[str, Any]) -> tuple[int, str]:
    answer = await plane.call("POST", PATH, body, token=None)
    assert answer.status >= 400, answer
    return answer.status, answer.document["message"]


async def sealing_key(plane: RunningControlPlane, node: EnrolledNode) -> str:
    async with plane.database.read() as session:
        found = await session.get(Node, node.node_id)
        assert found is not None
        return found.sealing_key


async def confirm(plane: RunningControlPlane, node: EnrolledNode, serial: str) -> None:
    """As the node would, over TLS with a certificate that is valid by the control plane's clock only."""
    renewals = Renewals(
        database=plane.database, issuance=plane.control_plane.identities.issuance, clock=plane.foundation.clock
    )
    await renewals.confirm(node.workspace_id, node.node_id, serial, Actor("test"))


async def renewed(plane: RunningControlPlane, asked: Request) -> Identity:
    answer = await plane.ok("POST", PATH, asked.body, token=None)
    return Identity(asked.key, CertificateChain.from_pem(answer["certificate_chain"]))


@pytest.mark.parametrize("days", [1.1, 15, 30.9])
async def test_a_node_comes_back_by_its_key(plane: RunningControlPlane, clock: OffsetClock, days: float):
    node = await plane.node("vm-1")
    before = await sealing_key(plane, node)
    clock.offset = days * DAY
    asked = await request(plane, node.identity)
    answer = await plane.ok("POST", PATH, asked.body, token=None)
    chain = CertificateChain.from_pem(answer["certificate_chain"])
    assert chain.spiffe_id == node.identity.spiffe_id
    assert chain.not_after > clock.now() + DAY - 10
    claims = (await plane.verifier()).verify(answer["listen_token"], TokenKind.LISTEN, clock.now())
    assert claims.certificate_thumbprint == chain.thumbprint
    assert answer["trust_document"] == plane.control_plane.identities.trust.text
    assert await sealing_key(plane, node) == before
    await confirm(plane, node, chain.serial)
    assert await sealing_key(plane, node) == NEXT_SEALING_KEY
    [event] = await plane.audit(action="node.late_renewal")
    assert event["details"]["by_certificate"] == node.identity.serial
    assert event["details"]["certificate"] == chain.serial


async def test_asked_again_with_a_new_nonce_gives_the_same(plane: RunningControlPlane, clock: OffsetClock):
    node = await plane.node("vm-1")
    clock.offset = 2 * DAY
    csr = build_csr(generate_key())
    answers = [
        await plane.ok("POST", PATH, (await request(plane, node.identity, csr=csr)).body, token=None) for _ in range(2)
    ]
    assert answers[0] == answers[1]
    assert len(await plane.audit(action="node.late_renewal")) == 1


async def test_a_request_is_good_once(plane: RunningControlPlane, clock: OffsetClock):
    node = await plane.node("vm-1")
    clock.offset = 2 * DAY
    asked = await request(plane, node.identity)
    answers = await asyncio.gather(*(plane.call("POST", PATH, asked.body, token=None) for _ in range(20)))
    assert sorted(answer.status for answer in answers) == [200] + [401] * 19
    assert "nonce" in (await refusal(plane, asked.body))[1]


async def test_nonces_that_were_guessed_or_have_expired(plane: RunningControlPlane, clock: OffsetClock):
    node = await plane.node("vm-1")
    clock.offset = 2 * DAY
    guessed = await request(plane, node.identity, nonce="guessed")
    old = await request(plane, node.identity)
    clock.offset += 61
    for asked in (guessed, old):
        status, message = await refusal(plane, asked.body)
        assert (status, "nonce" in message) == (401, True)


async def test_another_signing_request_than_the_one_that_was_signed(plane: RunningControlPlane, clock: OffsetClock):
    node = await plane.node("vm-1")
    clock.offset = 2 * DAY
    asked = await request(plane, node.identity)
    other = asked.body | {"csr": build_csr(generate_key())}
    assert (await refusal(plane, other))[0] == 401


async def test_keys_that_are_not_on_record_learn_nothing(plane: RunningControlPlane, clock: OffsetClock):
    """A genuine SVID that was never issued, another key under the same name, a relay's key: one and the same answer."""
    node, relay = await plane.node("vm-1"), await plane.relay()
    forged = plane.forged_node(node.workspace_id, node.node_id)
    key = generate_key()
    stolen_name = Identity(key, plane.authority.issue_node(build_csr(key), node.identity.spiffe_id, 3600, now=1.8e9))
    clock.offset = 2 * DAY
    said = {await refusal(plane, (await request(plane, one)).body) for one in (forged, stolen_name, relay.identity)}
    assert said == {(401, "the request is not signed by the key of a node's certificate that is on record")}


async def test_whoever_knows_a_certificate_and_has_not_its_key_gets_nothing(
    plane: RunningControlPlane, clock: OffsetClock, monkeypatch: pytest.MonkeyPatch
):
    """A certificate is no secret: each of its handshakes shows it. And who has its key is nobody else."""
    node, other = await plane.node("vm-1"), await plane.node("vm-2")
    monkeypatch.setattr(x509, "random_serial_number", lambda: int(node.identity.serial, 16))
    without_key = plane.issue(node.identity.spiffe_id)
    own_key = node.identity._key
    assert not isinstance(own_key, RSAPrivateKey)
    as_another = Identity(own_key, plane.authority.issue_node(build_csr(own_key), other.identity.spiffe_id, 60, now=0))
    monkeypatch.undo()
    clock.offset = 2 * DAY
    for impostor in (without_key, as_another):
        assert impostor.serial == node.identity.serial
        status, message = await refusal(plane, (await request(plane, impostor)).body)
        assert (status, "not signed by the key" in message) == (401, True)
    await renewed(plane, await request(plane, node.identity))


async def test_after_the_window_the_key_is_worth_nothing(plane: RunningControlPlane, clock: OffsetClock):
    node = await plane.node("vm-1")
    clock.offset = 31.1 * DAY
    status, message = await refusal(plane, (await request(plane, node.identity)).body)
    assert (status, "more than 30 days ago" in message) == (401, True)


@pytest.mark.parametrize("kind", ["node", "certificate", "workspace"])
async def test_what_was_revoked_does_not_come_back(plane: RunningControlPlane, clock: OffsetClock, kind: str):
    """Not even when the revocation itself has been forgotten, since everything it was about has expired."""
    node = await plane.node("vm-1")
    named = {"node": node.node_id, "certificate": node.identity.serial, "workspace": node.workspace_id}[kind]
    await plane.ok("POST", "/api/2.0/revocations", {"kind": kind, "id": named})
    for days in (1.5, 2.5, 20):
        clock.offset = days * DAY
        await plane.control_plane.housekeeping.clean()
        assert (await refusal(plane, (await request(plane, node.identity)).body))[0] == 401


@pytest.mark.parametrize("kind", ["node", "workspace", "certificate"])
async def test_what_is_locked_waits(plane: RunningControlPlane, clock: OffsetClock, kind: str):
    node = await plane.node("vm-1")
    clock.offset = 2 * DAY
    name = {"node": node.node_id, "workspace": node.workspace_id, "certificate": node.identity.serial}[kind]
    await plane.ok("POST", "/api/2.0/locks", {"kind": kind, "id": name, "lifetime_seconds": 3600, "reason": "odd"})
    asked = await request(plane, node.identity)
    assert await refusal(plane, asked.body) == (429, f"this {kind} is locked")
    clock.offset += 3601
    await renewed(plane, await request(plane, node.identity))


async def test_what_is_unlocked_waits_no_longer(plane: RunningControlPlane, clock: OffsetClock):
    node = await plane.node("vm-1")
    clock.offset = 2 * DAY
    lock = {"kind": "node", "id": node.node_id, "lifetime_seconds": 3600, "reason": "odd"}
    made = await plane.ok("POST", "/api/2.0/locks", lock)
    assert (await refusal(plane, (await request(plane, node.identity)).body))[0] == 429
    await plane.ok("DELETE", f"/api/2.0/locks/{made['lock_id']}")
    await renewed(plane, await request(plane, node.identity))


async def test_a_node_that_was_deleted_does_not_come_back(plane: RunningControlPlane, clock: OffsetClock):
    node = await plane.node("vm-1")
    await plane.ok("DELETE", "/w/finance/api/2.0/nodes/vm-1")
    clock.offset = 2 * DAY
    assert (await refusal(plane, (await request(plane, node.identity)).body))[0] == 401


async def test_only_the_newest_key_that_was_proved_comes_back(plane: RunningControlPlane, clock: OffsetClock):
    """Whoever holds a copy of the disk of last week finds that the node has moved on."""
    node = await plane.node("vm-1")
    clock.offset = 2 * DAY
    newer = await renewed(plane, await request(plane, node.identity))
    clock.offset = 4 * DAY
    again = await request(plane, node.identity)
    assert (await plane.call("POST", PATH, again.body, token=None)).status == 200
    await confirm(plane, node, newer.serial)
    status, message = await refusal(plane, (await request(plane, node.identity)).body)
    assert (status, "proved a newer key" in message) == (401, True)
    await renewed(plane, await request(plane, newer))


async def test_a_node_that_a_platform_attests_is_sent_there(plane: RunningControlPlane, clock: OffsetClock):
    node = await plane.node("vm-1")
    async with plane.database.write() as session:
        found = await session.get(Node, node.node_id)
        assert found is not None
        found.attested_as = "azure:vm"
    clock.offset = 2 * DAY
    assert "evidence" in (await refusal(plane, (await request(plane, node.identity)).body))[1]


async def test_a_window_of_no_days_turns_it_off(tmp_path: Path, clock: OffsetClock):
    settings = settings_for(tmp_path, bootstrap={"late_renewal_days": 0})
    async with running_control_plane(tmp_path, clock=clock, settings=settings) as plane:
        node = await plane.node("vm-1")
        clock.offset = 1.01 * DAY
        assert (await refusal(plane, (await request(plane, node.identity)).body))[0] == 403


async def test_the_rate_is_bounded(tmp_path: Path, clock: OffsetClock):
    settings = settings_for(tmp_path, limits={"most_late_renewals_per_second": 1})
    async with running_control_plane(tmp_path, clock=clock, settings=settings) as plane:
        nodes = [await plane.node(f"vm-{number}") for number in range(4)]
        clock.offset = 2 * DAY
        bodies = [(await request(plane, node.identity)).body for node in nodes]
        answers = await asyncio.gather(*(plane.call("POST", PATH, body, token=None) for body in bodies))
        assert {answer.status for answer in answers} == {200, 429}
        [limited, *_] = [answer for answer in answers if answer.status == 429]
        assert 5 <= int(limited.headers["Retry-After"]) < 35


class StandingClock(OffsetClock):
    """A clock by which no second passes, so that no rate is restored."""

    def monotonic(self) -> float:
        return 0.0


async def test_strangers_and_nodes_that_lie_keep_nobody_out(tmp_path: Path):
    clock = StandingClock()
    settings = settings_for(tmp_path, limits={"most_late_renewals_per_second": 61})
    async with running_control_plane(tmp_path, clock=clock, settings=settings) as plane:
        node, liar = await plane.node("vm-1"), await plane.node("vm-2")
        clock.offset = 2 * DAY
        lies = [(await request(plane, liar.identity, nonce="made up")).body] * 70
        strange = [{"request": "x", "csr": "x", "agent_version": "1"}] * 70
        answers = await asyncio.gather(*(plane.call("POST", PATH, body, token=None) for body in [*lies, *strange]))
        assert {answer.status for answer in answers} == {401, 429}
        await renewed(plane, await request(plane, node.identity))


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "x" * 5000])
async def test_what_is_no_request(plane: RunningControlPlane, text: str):
    body = {"request": text, "csr": build_csr(generate_key()), "agent_version": "1"}
    assert (await refusal(plane, body))[0] in (400, 401)


async def test_refusals_are_audited(plane: RunningControlPlane):
    await plane.call("POST", PATH, {"request": "x", "csr": "x", "agent_version": "1"}, token=None)
    [event] = await plane.audit(action="node.late_renewal")
    assert event["outcome"].startswith("refused: ")


async def test_the_key_is_on_record_for_as_long_as_it_is_good(plane: RunningControlPlane, clock: OffsetClock):
    node = await plane.node("vm-1")
    clock.offset = 30.5 * DAY
    await plane.control_plane.housekeeping.clean()
    await renewed(plane, await request(plane, node.identity))
