"""Bootstrap, confirmation, renewal: exactly once, whoever asks however often."""

import asyncio
from pathlib import Path

import pytest

from certs.chains import CertificateChain
from certs.encoding import encode_base64url
from certs.identities import Identity, build_csr
from certs.keyfiles import generate_key
from certs.lifespan import lifespan_of, renewal_moment
from certs.tokens import TokenKind
from control_plane.line import RETRY_SECONDS
from control_plane.storage import bootstraps
from control_plane.storage.accounts import token_hash
from control_plane.storage.records.nodes import Node
from tests.support.control_planes import SEALING_KEY, RunningControlPlane, running_control_plane, settings_for
from trunkline.runtime.clock import SystemClock

PATH = "/api/2.0/bootstrap"


class OffsetClock(SystemClock):
    """The machine's clock, moved forwards by the test."""

    __slots__ = ("offset",)

    def __init__(self) -> None:
        self.offset = 0.0

    def now(self) -> float:
        return super().now() + self.offset


async def test_a_machine_becomes_a_node(plane: RunningControlPlane):
    await plane.relay("relay-1", 8443)
    node = await plane.node("vm-1", labels={"role": "web"})
    answer = node.answer
    assert (answer["node"], answer["workspace"], answer["name_suffix"]) == ("vm-1", "finance", "trunk.internal")
    assert [one["url"] for one in answer["relays"]] == ["https://relay-1.test:8443"]
    assert answer["trust_document"] == plane.control_plane.identities.trust.text
    expected = f"spiffe://trunkline.test/workspace/{node.workspace_id}/node/{node.node_id}"
    assert str(node.identity.chain.spiffe_id) == expected
    claims = (await plane.verifier()).verify(answer["listen_token"], TokenKind.LISTEN, plane.foundation.clock.now())
    assert (claims.node, claims.workspace, claims.node_id) == ("vm-1", "finance", node.node_id)
    assert claims.certificate_thumbprint == node.identity.chain.thumbprint
    seen = await plane.ok("GET", "/w/finance/api/2.0/nodes/vm-1")
    assert (seen["state"], seen["labels"], seen["host"]) == ("pending", {"role": "web"}, "vm-1.finance.trunk.internal")


async def test_a_hundred_equal_requests_are_one_node_and_one_identity(plane: RunningControlPlane):
    await plane.workspace()
    body, _ = await plane.bootstrap_body(await plane.join_token(), node_name="vm-1")
    answers = await asyncio.gather(*(plane.call("POST", PATH, body, token=None) for _ in range(100)))
    assert {answer.status for answer in answers} <= {200, 429}
    granted = [answer.document for answer in answers if answer.status == 200]
    assert len({one["certificate_chain"] for one in granted}) == 1
    assert len({one["listen_token"] for one in granted}) == 1
    assert len((await plane.ok("GET", "/w/finance/api/2.0/nodes"))["nodes"]) == 1
    assert len(await plane.audit(action="node.bootstrap", outcome="ok")) == 1


async def test_asked_again_with_a_new_nonce_gives_the_same(plane: RunningControlPlane):
    await plane.workspace()
    body, _ = await plane.bootstrap_body(await plane.join_token())
    first = await plane.ok("POST", PATH, body, token=None)
    again = await plane.ok("POST", PATH, body | {"nonce": await plane.nonce()}, token=None)
    assert again["certificate_chain"] == first["certificate_chain"]


async def test_another_csr_is_a_conflict(plane: RunningControlPlane):
    await plane.workspace()
    token = await plane.join_token()
    body, _ = await plane.bootstrap_body(token)
    await plane.ok("POST", PATH, body, token=None)
    other, _ = await plane.bootstrap_body(token)
    for attempt in (other, other | {"nonce": body["nonce"]}):
        answer = await plane.call("POST", PATH, attempt, token=None)
        assert (answer.status, answer.error_code) == (409, "RESOURCE_CONFLICT") or answer.status == 401
    assert len((await plane.ok("GET", "/w/finance/api/2.0/nodes"))["nodes"]) == 1


async def test_a_join_token_admits_nobody_once_it_has_expired(tmp_path: Path):
    clock = OffsetClock()
    async with running_control_plane(tmp_path, clock=clock) as plane:
        await plane.workspace()
        tokens = [await plane.join_token(lifetime_seconds=60) for _ in range(2)]
        for offset, token, status in ((50, tokens[0], 200), (61, tokens[1], 401)):
            clock.offset = offset
            body, _ = await plane.bootstrap_body(token)
            assert (await plane.call("POST", PATH, body, token=None)).status == status
        assert len((await plane.ok("GET", "/w/finance/api/2.0/nodes"))["nodes"]) == 1


async def test_after_ten_minutes_a_used_token_gives_nothing(tmp_path: Path):
    clock = OffsetClock()
    async with running_control_plane(tmp_path, clock=clock) as plane:
        await plane.workspace()
        body, _ = await plane.bootstrap_body(await plane.join_token(lifetime_seconds=3600))
        await plane.ok("POST", PATH, body, token=None)
        clock.offset = 599
        await plane.ok("POST", PATH, body, token=None)
        clock.offset = 601
        answer = await plane.call("POST", PATH, body | {"nonce": await plane.nonce()}, token=None)
        assert answer.status == 409


async def test_a_token_for_some_uses(plane: RunningControlPlane):
    await plane.workspace()
    token = await plane.join_token(uses=3)
    for _ in range(3):
        body, _ = await plane.bootstrap_body(token)
        await plane.ok("POST", PATH, body, token=None)
    body, _ = await plane.bootstrap_body(token)
    assert (await plane.call("POST", PATH, body, token=None)).status == 409
    [shown] = (await plane.ok("GET", "/w/finance/api/2.0/join-tokens"))["join_tokens"]
    assert (shown["uses"], shown["used"]) == (3, 3)
    assert "join_token" not in shown


async def test_nonces_are_single_use_and_short_lived(tmp_path: Path):
    clock = OffsetClock()
    async with running_control_plane(tmp_path, clock=clock) as plane:
        await plane.workspace()
        token = await plane.join_token(uses=10)
        first, _ = await plane.bootstrap_body(token)
        await plane.ok("POST", PATH, first, token=None)
        second, _ = await plane.bootstrap_body(token)
        expired = second["nonce"]
        clock.offset = 61
        for nonce in (first["nonce"], expired, "guessed", ""):
            answer = await plane.call("POST", PATH, second | {"nonce": nonce}, token=None)
            assert answer.status in (400, 401)
        assert len((await plane.ok("GET", "/w/finance/api/2.0/nodes"))["nodes"]) == 1


async def test_challenges_are_bounded_and_a_flood_keeps_nobody_out(tmp_path: Path):
    from tests.support.control_planes import settings_for

    clock = OffsetClock()
    settings = settings_for(tmp_path, limits={"most_challenges": 16})
    async with running_control_plane(tmp_path, clock=clock, settings=settings) as plane:
        await plane.workspace()
        flooded, _ = await plane.bootstrap_body(await plane.join_token())
        for _ in range(16):
            clock.offset += 0.001
            await plane.nonce()
        assert (await plane.call("POST", PATH, flooded, token=None)).status == 401
        asked, _ = await plane.bootstrap_body(await plane.join_token())
        for _ in range(15):
            clock.offset += 0.001
            await plane.nonce()
        assert (await plane.call("POST", PATH, asked, token=None)).status == 200
        async with plane.database.read() as session:
            assert await bootstraps.count_challenges(session) <= 16


async def test_the_answer_of_another_kind_is_nobodys_here(plane: RunningControlPlane):
    """A node that names as its join token what its renewal is kept under."""
    node = await plane.node("vm-1")
    csr = build_csr(generate_key())
    await plane.ok("POST", "/api/2.0/nodes/self/renew", {"csr": csr}, identity=node.identity)
    body, _ = await plane.bootstrap_body(f"renewal/{node.node_id}", csr=csr)
    answer = await plane.call("POST", PATH, body, token=None)
    assert (answer.status, answer.error_code) == (401, "UNAUTHENTICATED")


async def test_names(plane: RunningControlPlane):
    await plane.node("vm-1")
    taken = await plane.node("vm-1")
    assert taken.answer["node"].startswith("vm-1-")
    await plane.ok("DELETE", "/w/finance/api/2.0/nodes/vm-1")
    again = await plane.node("vm-1")
    assert again.answer["node"] == "vm-1"
    nameless, _ = await plane.bootstrap_body(await plane.join_token())
    assert (await plane.ok("POST", PATH, nameless, token=None))["node"].startswith("node-")


async def test_a_token_bound_to_a_name(plane: RunningControlPlane):
    await plane.workspace()
    token = await plane.join_token(node_name="db-1")
    body, _ = await plane.bootstrap_body(token, node_name="web-1")
    assert (await plane.call("POST", PATH, body, token=None)).status == 400
    body, _ = await plane.bootstrap_body(token)
    assert (await plane.ok("POST", PATH, body, token=None))["node"] == "db-1"
    body, _ = await plane.bootstrap_body(await plane.join_token(node_name="db-1"))
    answer = await plane.call("POST", PATH, body, token=None)
    assert (answer.status, "delete it" in answer.document["message"]) == (409, True)


async def test_a_node_joins_the_cluster_of_its_token(plane: RunningControlPlane):
    await plane.workspace()
    await plane.ok("POST", "/w/finance/api/2.0/clusters", {"cluster": "blue"})
    await plane.node("vm-1", cluster="blue")
    assert (await plane.ok("GET", "/w/finance/api/2.0/clusters/blue"))["nodes"] == ["vm-1"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"csr": "x"}, 400),
        ({"csr": "x" * 20_000}, 400),
        ({"sealing_key": "AAAA"}, 400),
        ({"sealing_key": "=" * 44}, 400),
        ({"node_name": "No Label"}, 400),
        ({"nonce": 5}, 400),
        ({"evidence": {"type": "join_token"}}, 400),
        ({"evidence": {"type": "join_token", "token": "tlj-wrong"}}, 401),
        ({"evidence": {"type": "join_token", "token": ""}}, 400),
        ({"evidence": {"type": "aws", "token": "x"}}, 403),
        ({"agent_version": "x" * 65}, 400),
        ({"agent_version": "a\x00"}, 400),
        ({"unknown_field_of_a_later_agent": 1}, 200),
    ],
)
async def test_requests(plane: RunningControlPlane, change: dict[str, object], status: int):
    await plane.workspace()
    body, _ = await plane.bootstrap_body(await plane.join_token())
    assert (await plane.call("POST", PATH, body | change, token=None)).status == status


async def test_refusals_are_audited_without_the_evidence(plane: RunningControlPlane):
    await plane.workspace()
    body, _ = await plane.bootstrap_body("tlj-secret-evidence")
    await plane.call("POST", PATH, body, token=None)
    [event] = await plane.audit(action="node.bootstrap")
    assert event["outcome"].startswith("refused: this join token is unknown")
    assert event["details"]["evidence_sha256"] == [token_hash("tlj-secret-evidence")]
    assert "tlj-secret-evidence" not in str(await plane.audit())


async def test_a_csr_that_asks_for_more_gets_only_what_the_record_says(plane: RunningControlPlane):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    await plane.workspace()
    key = generate_key()
    asked = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=3), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://trunkline.test/control-plane")]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    body, _ = await plane.bootstrap_body(await plane.join_token(), csr=asked.decode())
    answer = await plane.ok("POST", PATH, body, token=None)
    leaf = CertificateChain.from_pem(answer["certificate_chain"])
    assert str(leaf.spiffe_id).endswith(f"/node/{answer['node_id']}")
    assert not leaf.leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


async def test_renewal_gives_the_same_for_the_same_csr_and_the_old_leaf_lives_on(plane: RunningControlPlane):
    node = await plane.node("vm-1")
    csr = build_csr(generate_key())
    first = await plane.ok("POST", "/api/2.0/nodes/self/renew", {"csr": csr}, identity=node.identity)
    second = await plane.ok("POST", "/api/2.0/nodes/self/renew", {"csr": csr}, identity=node.identity)
    assert first["certificate_chain"] == second["certificate_chain"]
    assert first["trust_document"] == plane.control_plane.identities.trust.text
    chain = CertificateChain.from_pem(first["certificate_chain"])
    assert chain.spiffe_id == node.identity.chain.spiffe_id
    claims = (await plane.verifier()).verify(first["listen_token"], TokenKind.LISTEN, plane.foundation.clock.now())
    assert claims.certificate_thumbprint == chain.thumbprint
    fresh = await plane.ok("POST", "/api/2.0/nodes/self/listen-token", {}, identity=node.identity)
    claims = (await plane.verifier()).verify(fresh["listen_token"], TokenKind.LISTEN, plane.foundation.clock.now())
    assert claims.certificate_thumbprint == node.identity.chain.thumbprint


async def test_what_was_issued_while_the_clock_was_ahead_is_not_given_again_once_it_is_right(tmp_path: Path):
    clock = OffsetClock()
    async with running_control_plane(tmp_path, clock=clock) as plane:
        machines = (("nodes", (await plane.node()).identity), ("relays", (await plane.relay()).identity))
        for kind, identity in machines:
            body, answers = {"csr": build_csr(generate_key())}, []
            for clock.offset in (3600, 0, 0):
                answer = await plane.ok("POST", f"/api/2.0/{kind}/self/renew", body, identity=identity)
                answers.append(CertificateChain.from_pem(answer["certificate_chain"]))
            ahead, right, again = answers
            assert ahead.not_before > clock.now() >= right.not_before
            assert again.serial == right.serial


async def test_confirming_twice_is_once(plane: RunningControlPlane):
    node = await plane.node("vm-1")
    before = plane.control_plane.identities.trust.sequence
    assert await plane.ok("POST", f"{PATH}/confirm", {}, identity=node.identity) == {}
    assert plane.control_plane.identities.trust.sequence == before
    assert len(await plane.audit(action="node.confirm")) == 1


async def sealing_key_of(plane: RunningControlPlane, node_id: str) -> str:
    async with plane.database.read() as session:
        node = await session.get(Node, node_id)
        assert node is not None
        return node.sealing_key


async def renew(plane: RunningControlPlane, identity: Identity, **fields: str):
    key = generate_key()
    body = {"csr": build_csr(key), **fields}
    answer = await plane.ok("POST", "/api/2.0/nodes/self/renew", body, identity=identity)
    return Identity(key, CertificateChain.from_pem(answer["certificate_chain"])), body, answer


async def test_the_sealing_key_changes_when_the_renewal_is_confirmed_and_not_before(plane: RunningControlPlane):
    node = await plane.node("vm-1")
    following = encode_base64url(b"t" * 32)
    heir, _, _ = await renew(plane, node.identity, sealing_key=following)
    assert await sealing_key_of(plane, node.node_id) == SEALING_KEY
    await plane.ok("POST", f"{PATH}/confirm", {}, identity=node.identity)
    assert await sealing_key_of(plane, node.node_id) == SEALING_KEY
    for _ in range(2):
        await plane.ok("POST", f"{PATH}/confirm", {}, identity=heir)
        assert await sealing_key_of(plane, node.node_id) == following


async def test_a_renewal_that_is_confirmed_late_does_not_bring_its_sealing_key_back(plane: RunningControlPlane):
    node = await plane.node("vm-1")
    first, _, _ = await renew(plane, node.identity, sealing_key=encode_base64url(b"t" * 32))
    second, _, _ = await renew(plane, node.identity, sealing_key=encode_base64url(b"u" * 32))
    await plane.ok("POST", f"{PATH}/confirm", {}, identity=second)
    await plane.ok("POST", f"{PATH}/confirm", {}, identity=first)
    assert await sealing_key_of(plane, node.node_id) == encode_base64url(b"u" * 32)


async def test_a_renewal_after_the_clock_was_set_back_brings_its_sealing_key(tmp_path: Path):
    clock = OffsetClock()
    clock.offset = 120.0
    async with running_control_plane(tmp_path, clock=clock) as plane:
        node = await plane.node("vm-1")
        clock.offset = 0.0
        following = encode_base64url(b"t" * 32)
        heir, _, _ = await renew(plane, node.identity, sealing_key=following)
        await plane.ok("POST", f"{PATH}/confirm", {}, identity=heir)
        assert await sealing_key_of(plane, node.node_id) == following


async def test_the_same_renewal_is_answered_the_same_also_after_a_restart(tmp_path: Path):
    async with running_control_plane(tmp_path) as plane:
        node = await plane.node("vm-1")
        _, body, answer = await renew(plane, node.identity, sealing_key=SEALING_KEY)
    async with running_control_plane(tmp_path) as plane:
        again = await plane.ok("POST", "/api/2.0/nodes/self/renew", body, identity=node.identity)
        for name in ("certificate_chain", "listen_token", "renew_time"):
            assert again[name] == answer[name]
        assert len(await plane.audit(action="node.renew")) == 1
        other = body | {"sealing_key": encode_base64url(b"t" * 32)}
        refused = await plane.call("POST", "/api/2.0/nodes/self/renew", other, identity=node.identity)
        assert refused.status == 409


async def test_a_pair_comes_with_the_moment_of_its_renewal_which_an_agent_takes(plane: RunningControlPlane):
    await plane.workspace()
    body, key = await plane.bootstrap_body(await plane.join_token())
    answer = await plane.ok("POST", PATH, body, token=None)
    identity = Identity(key, CertificateChain.from_pem(answer["certificate_chain"]))
    await plane.ok("POST", f"{PATH}/confirm", {}, identity=identity)
    _, _, renewed = await renew(plane, identity, sealing_key=SEALING_KEY)
    for first, pair in ((True, answer), (False, renewed)):
        leaf = lifespan_of(CertificateChain.from_pem(pair["certificate_chain"]))
        moment = pair["renew_time"] / 1000
        assert leaf.at(0.4 if first else 0.5) <= moment <= leaf.at(0.7)
        assert moment % 1 == 0.5
        assert renewal_moment(leaf, leaf, "00", first=first, promised=moment) == moment


async def test_of_many_pairs_no_two_are_to_be_renewed_in_the_same_second(plane: RunningControlPlane):
    node = await plane.node("vm-1")
    moments = [(await renew(plane, node.identity))[2]["renew_time"] for _ in range(40)]
    assert len(set(moments)) == len(moments)


async def test_sixty_equal_renewals_at_once_are_one(plane: RunningControlPlane):
    node = await plane.node("vm-1")
    body = {"csr": build_csr(generate_key()), "sealing_key": SEALING_KEY}
    answers = await asyncio.gather(
        *(plane.ok("POST", "/api/2.0/nodes/self/renew", body, identity=node.identity) for _ in range(60))
    )
    assert len({(answer["certificate_chain"], answer["listen_token"]) for answer in answers}) == 1


async def test_a_genuine_certificate_that_is_not_on_record_counts_as_confirmed(plane: RunningControlPlane):
    """The database was restored from before it; nobody but this authority can have issued it."""
    node = await plane.node("vm-1")
    unknown = plane.forged_node(node.workspace_id, node.node_id)
    await plane.ok("POST", f"{PATH}/confirm", {}, identity=unknown)
    assert len(await plane.audit(action="certificate.take_back")) == 1


async def test_more_machines_than_have_a_turn_wait_for_theirs_and_all_join(tmp_path: Path):
    settings = settings_for(tmp_path, limits={"most_bootstraps_at_once": 2})
    async with running_control_plane(tmp_path, settings=settings) as plane:
        await plane.workspace()
        token = await plane.join_token(uses=40)
        bodies = [(await plane.bootstrap_body(token))[0] for _ in range(40)]
        answers = await asyncio.gather(*(plane.call("POST", PATH, body, token=None) for body in bodies))
        assert {answer.status for answer in answers} == {200}


async def test_machines_for_which_there_is_no_time_are_told_when_to_ask_again(tmp_path: Path):
    settings = settings_for(tmp_path, limits={"most_bootstraps_at_once": 1, "most_bootstraps_waiting": 0})
    async with running_control_plane(tmp_path, settings=settings) as plane:
        await plane.workspace()
        token = await plane.join_token(uses=20)
        bodies = [(await plane.bootstrap_body(token))[0] for _ in range(20)]
        answers = await asyncio.gather(*(plane.call("POST", PATH, body, token=None) for body in bodies))
        refused = [answer for answer in answers if answer.status == 429]
        assert {answer.status for answer in answers} == {200, 429}
        assert {answer.error_code for answer in refused} == {"RESOURCE_EXHAUSTED"}
        first, last = RETRY_SECONDS
        assert all(first <= int(answer.headers["Retry-After"]) <= last for answer in refused)
