import dataclasses
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from certs.chains import MAX_CERTIFICATE_BYTES, MAX_CHAIN_CERTIFICATES
from certs.encoding import decode_base64url, encode_base64url
from certs.errors import CertificateError, TrustRollbackError
from certs.identities import Identity
from certs.jose import chain_member, write_compact
from certs.keyfiles import generate_key, write_secret
from certs.keyring import token_key
from certs.tokens import TokenClaims, TokenError, TokenKind, TokenVerifier
from certs.trust import (
    Revocations,
    TrustDocument,
    TrustLock,
    TrustStore,
    TrustVerdict,
    content_fingerprint,
    fingerprint_of_text,
    sign_trust_document,
    verify_first_trust_document,
    verify_held_trust_document,
    verify_trust_document,
)
from certs.trust_form import write_trust_claims
from tests.support.identities import IdentityKit

NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("kit"), now=NOW)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("stranger"), now=NOW)


def document(kit: IdentityKit, **changes: Any) -> TrustDocument:
    content = {
        "trust_domain": kit.trust_domain, "sequence": 1, "issued_at": int(NOW), "roots": kit.roots,
        "token_keys": kit.keyring.keys, "name_suffix": "trunk.internal", **changes,
    }  # fmt: skip
    return TrustDocument(**content)


def forge(signer: Identity, claims: dict[str, Any], **header: Any) -> str:
    full = {"typ": "tl-trust+jwt", "x5c": chain_member(signer.chain.certificates), **header}
    return write_compact(full, claims, signer.signing_key())


def test_a_document_there_and_back(kit: IdentityKit) -> None:
    full = document(
        kit,
        revocations=Revocations({"jti": int(NOW)}, {"ab12": int(NOW)}, frozenset({"nd-1"}), frozenset({"ws-1"})),
        locks=(TrustLock("node", "nd-2", int(NOW) + 60, "under investigation: “später”"),),
    )
    assert verify_trust_document(sign_trust_document(full, kit.control_plane), kit.roots, NOW) == full


@pytest.mark.parametrize("relays", [None, (), ("https://relay.example:443", "https://[::1]:8443")])
def test_the_relays_that_a_document_names(kit: IdentityKit, relays: tuple[str, ...] | None) -> None:
    text = sign_trust_document(document(kit, relays=relays), kit.control_plane)
    assert verify_trust_document(text, kit.roots, NOW).relays == relays


@pytest.mark.parametrize(
    "relays",
    [
        None,
        "https://a:1",
        [1],
        ["http://a:1"],
        ["https://a b"],
        ["https://a/x"],
        ["https://u@a"],
        ["https://a:1"] * 257,
    ],
)
def test_malformed_relays_are_refused(kit: IdentityKit, relays: object) -> None:
    claims = write_trust_claims(document(kit)) | {"relays": relays}
    with pytest.raises(CertificateError, match="member relays is"):
        verify_trust_document(forge(kit.control_plane, claims), kit.roots, NOW)


def test_only_the_control_plane_signs(kit: IdentityKit, stranger: IdentityKit) -> None:
    for identity in (kit.issue_relay(), kit.issue_node()):
        with pytest.raises(CertificateError, match="only the control plane"):
            sign_trust_document(document(kit), identity)
        with pytest.raises(CertificateError, match="not signed by the control plane"):
            verify_trust_document(forge(identity, write_trust_claims(document(kit))), kit.roots, NOW)
    foreign = forge(stranger.control_plane, write_trust_claims(document(kit)))
    with pytest.raises(CertificateError, match="not trusted"):
        verify_trust_document(foreign, kit.roots, NOW)
    with pytest.raises(CertificateError, match="not trusted"):
        verify_first_trust_document(foreign, NOW)


def test_a_borrowed_chain_does_not_help(kit: IdentityKit, stranger: IdentityKit) -> None:
    claims = write_trust_claims(document(kit))
    text = forge(stranger.control_plane, claims, x5c=chain_member(kit.control_plane.chain.certificates))
    with pytest.raises(TokenError, match="signature"):
        verify_trust_document(text, kit.roots, NOW)


def with_content(text: str, content: bytes) -> str:
    header, _, signature = text.split(".")
    return f"{header}.{encode_base64url(content)}.{signature}"


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}"])
def test_the_content_is_read_only_behind_a_good_signature(
    kit: IdentityKit, stranger: IdentityKit, content: bytes
) -> None:
    foreign, altered = with_content(stranger.trust_document(), content), with_content(kit.trust_document(), content)
    for verify in (lambda text: verify_trust_document(text, kit.roots, NOW),
                   lambda text: verify_held_trust_document(text, kit.roots)):  # fmt: skip
        with pytest.raises(CertificateError, match="chain is not trusted"):
            verify(foreign)
        with pytest.raises(TokenError, match="signature is wrong"):
            verify(altered)


@pytest.mark.parametrize(
    ("claims", "problem"), [({"version": 1.5}, "strict JSON"), ({"a": [[[[[[]]]]]]}, "strict JSON"), ({}, "version")]
)
def test_what_the_control_plane_signed_is_read_strictly(kit: IdentityKit, claims: dict[str, Any], problem: str) -> None:
    text = forge(kit.control_plane, claims)
    for verify in (lambda: verify_trust_document(text, kit.roots, NOW),
                   lambda: verify_held_trust_document(text, kit.roots)):  # fmt: skip
        with pytest.raises(CertificateError, match=problem):
            verify()


def test_a_header_is_bounded_by_the_longest_chain(kit: IdentityKit) -> None:
    longest = "x" * (MAX_CHAIN_CERTIFICATES * MAX_CERTIFICATE_BYTES * 4 // 3)
    with pytest.raises(TokenError, match="chain cannot be read"):
        verify_trust_document(forge(kit.control_plane, {}, x5c=[longest]), kit.roots, NOW)
    with pytest.raises(TokenError, match="header is longer"):
        verify_trust_document(forge(kit.control_plane, {}, x5c=[longest], padding=longest), kit.roots, NOW)


def test_another_trust_domain_of_the_same_root_is_refused(kit: IdentityKit) -> None:
    claims = write_trust_claims(document(kit)) | {"trust_domain": "other.test"}
    with pytest.raises(CertificateError, match="not signed by the control plane of its trust domain"):
        verify_trust_document(forge(kit.control_plane, claims), kit.roots, NOW)


def test_an_expired_signer_is_refused(kit: IdentityKit) -> None:
    with pytest.raises(CertificateError, match="not trusted"):
        verify_trust_document(kit.trust_document(), kit.roots, NOW + 31 * 86400)


def test_a_token_is_no_trust_document(kit: IdentityKit) -> None:
    with pytest.raises(CertificateError, match="not a trust document"):
        verify_trust_document(kit.call_token(), kit.roots, NOW)
    with pytest.raises(TokenError):
        kit.verifier().verify(kit.trust_document(), tuple(TokenKind), NOW)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("version", 2), ("version", None), ("trust_domain", "UPPER"), ("trust_domain", None), ("trust_domain", 5),
        ("sequence", 0), ("sequence", -1), ("sequence", "1"), ("sequence", True), ("sequence", None),
        ("issued_at", 0), ("issued_at", "x"), ("roots", []), ("roots", ["garbage"]), ("roots", [5]), ("roots", "x"),
        ("token_keys", [5]), ("token_keys", [{}]), ("token_keys", {}), ("revocations", None), ("revocations", []),
        ("revocations", {"token_ids": [], "certificates": {}, "nodes": [], "workspaces": []}),
        ("revocations", {"token_ids": {"a b": 1}, "certificates": {}, "nodes": [], "workspaces": []}),
        ("revocations", {"token_ids": {"a": "1"}, "certificates": {}, "nodes": [], "workspaces": []}),
        ("revocations", {"token_ids": {}, "certificates": {}, "nodes": [5], "workspaces": []}),
        ("revocations", {"token_ids": {}, "certificates": {}, "nodes": {}, "workspaces": []}),
        ("locks", None), ("locks", [5]), ("locks", [{"kind": 5, "id": "x", "expires_at": 1, "reason": ""}]),
        ("locks", [{"kind": "node", "id": "", "expires_at": 1}]), ("locks", [{"kind": "node", "id": "x"}]),
        ("locks", [{"kind": "node", "id": "x", "expires_at": 1, "reason": "x" * 501}]),
        ("name_suffix", None), ("name_suffix", "UPPER"),
    ],
)  # fmt: skip
def test_members_have_their_exact_form(kit: IdentityKit, member: str, value: Any) -> None:
    text = forge(kit.control_plane, {**write_trust_claims(document(kit)), member: value})
    with pytest.raises(CertificateError):
        verify_trust_document(text, kit.roots, NOW)


def test_a_key_id_names_one_key(kit: IdentityKit) -> None:
    twice = dataclasses.replace(token_key(generate_key().public_key()), key_id=kit.token_key.key_id)
    with pytest.raises(CertificateError, match="token_keys"):
        sign_trust_document(document(kit, token_keys=[kit.token_key, twice]), kit.control_plane)


def test_unknown_members_are_ignored(kit: IdentityKit) -> None:
    text = forge(kit.control_plane, {**write_trust_claims(document(kit)), "hints": {"colour": "blue"}})
    assert verify_trust_document(text, kit.roots, NOW) == verify_trust_document(kit.trust_document(), kit.roots, NOW)


def test_locks_of_a_kind_of_a_later_release_keep_nobody_from_the_rest(kit: IdentityKit) -> None:
    known = {"kind": "node", "id": "nd-2", "expires_at": int(NOW) + 60, "reason": ""}
    later = {"kind": "galaxy", "name": "x", "until": "dawn"}
    revoked = {"token_ids": {}, "certificates": {}, "nodes": ["nd-3"], "workspaces": []}
    claims = {**write_trust_claims(document(kit)), "locks": [later, known], "revocations": revoked}
    read = verify_trust_document(forge(kit.control_plane, claims), kit.roots, NOW)
    assert read.locks == (TrustLock("node", "nd-2", int(NOW) + 60),)
    assert read.revocations.nodes == {"nd-3"}
    with pytest.raises(CertificateError, match="unknown kind"):
        sign_trust_document(document(kit, locks=[TrustLock("galaxy", "x", 1)]), kit.control_plane)


def test_no_private_key_is_in_a_document(kit: IdentityKit) -> None:
    payload = json.loads(decode_base64url(kit.trust_document().split(".")[1]))
    assert set(payload["token_keys"][0]["jwk"]) == {"kty", "crv", "x", "y"}


def test_the_store_takes_newer_documents_only(kit: IdentityKit) -> None:
    store, seen = TrustStore(), []
    store.subscribe(lambda current: seen.append(current.sequence))
    assert store.replace(kit.trust_document(5), NOW)
    held = store.current
    assert not store.replace(kit.trust_document(5), NOW), "signed anew, but the same"
    assert store.current is held
    assert store.replace(kit.trust_document(6), NOW)
    for older in (5, 1):
        with pytest.raises(CertificateError, match="older than 6"):
            store.replace(kit.trust_document(older), NOW)
    assert store.current is not None
    assert store.current.sequence == 6
    assert seen == [5, 6]


def test_a_signer_that_was_revoked_signs_no_more(kit: IdentityKit) -> None:
    store, signer = TrustStore(), kit.control_plane
    ended = Revocations(certificates={signer.serial: int(NOW) + 86400})
    store.replace(sign_trust_document(document(kit, revocations=ended), signer), NOW)
    with pytest.raises(CertificateError, match="was revoked"):
        store.replace(sign_trust_document(document(kit, sequence=9), signer), NOW)
    later = document(kit, sequence=9, revocations=ended)
    assert store.replace(sign_trust_document(later, kit.issue_control_plane()), NOW)


def test_a_signer_that_is_locked_signs_nothing_meanwhile(kit: IdentityKit) -> None:
    store, signer = TrustStore(), kit.control_plane
    lock = TrustLock("certificate", signer.serial, int(NOW) + 60)
    store.replace(sign_trust_document(document(kit, locks=[lock]), signer), NOW)
    later = sign_trust_document(document(kit, sequence=9), signer)
    with pytest.raises(CertificateError, match="is locked"):
        store.replace(later, NOW)
    assert store.replace(later, NOW + 60)


def test_an_empty_store_trusts_nothing() -> None:
    store = TrustStore()
    assert store.current is None
    assert store.keyring.keys == ()
    assert store.keyring.roots == ()


def test_two_documents_with_one_number_are_an_alarm(kit: IdentityKit) -> None:
    store = TrustStore()
    store.replace(kit.trust_document(5), NOW)
    with pytest.raises(CertificateError, match="another trust document with the number 5"):
        store.replace(kit.trust_document(5, revocations=Revocations(nodes=frozenset({"nd-1"}))), NOW)


def test_the_trust_domain_never_changes(kit: IdentityKit, tmp_path: Path) -> None:
    other = IdentityKit(tmp_path, trust_domain="other.test", now=NOW)
    store = TrustStore()
    store.replace(kit.trust_document(1), NOW)
    mixed = document(kit, sequence=2, roots=[*kit.roots, *other.roots])
    store.replace(sign_trust_document(mixed, kit.control_plane), NOW)
    with pytest.raises(CertificateError, match="another trust domain"):
        store.replace(other.trust_document(3), NOW)


def test_new_roots_come_signed_under_old_ones(kit: IdentityKit, stranger: IdentityKit) -> None:
    store = TrustStore()
    store.replace(kit.trust_document(1), NOW)
    with pytest.raises(CertificateError, match="not trusted"):
        store.replace(stranger.trust_document(2), NOW)
    both = document(kit, sequence=2, roots=[*kit.roots, *stranger.roots])
    store.replace(sign_trust_document(both, kit.control_plane), NOW)
    assert store.replace(stranger.trust_document(3), NOW)
    with pytest.raises(CertificateError, match="not trusted"):
        store.replace(kit.trust_document(4), NOW)


def test_the_key_ring_follows_the_document(kit: IdentityKit) -> None:
    store = TrustStore()
    tokens = TokenVerifier(store.keyring, kit.trust_domain)
    store.replace(kit.trust_document(1), NOW)
    token = kit.call_token()
    tokens.verify(token, TokenKind.CALL, NOW)
    store.replace(sign_trust_document(document(kit, sequence=2, token_keys=[]), kit.control_plane), NOW)
    with pytest.raises(TokenError, match="not trusted"):
        tokens.verify(token, TokenKind.CALL, NOW)


def test_a_document_outlives_the_process_and_its_signer(kit: IdentityKit, tmp_path: Path) -> None:
    path = tmp_path / "trust.jws"
    TrustStore(path).replace(kit.trust_document(7), NOW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = TrustStore(path)
    assert again.current is not None
    assert again.current.sequence == 7
    assert again.keyring.find(kit.token_key.key_id) == kit.token_key
    assert again.text == path.read_text()


def test_the_first_document_is_stored_before_it_is_in_force(kit: IdentityKit, tmp_path: Path) -> None:
    store = TrustStore(tmp_path / "state" / "trust.jws")
    with pytest.raises(CertificateError, match="cannot write"):
        store.replace(kit.trust_document(1), NOW)
    assert store.current is None


def test_a_revocation_counts_though_the_disk_does_not_take_it(kit: IdentityKit, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    path = tmp_path / "state" / "trust.jws"
    store = TrustStore(path)
    store.replace(kit.trust_document(1), NOW)
    (tmp_path / "state").rename(tmp_path / "gone")
    assert store.replace(kit.trust_document(2, revocations=Revocations(nodes=frozenset({"nd-1"}))), NOW)
    assert store.current is not None
    assert store.current.revocations.nodes == {"nd-1"}
    assert "cannot write" in str(store.unstored)
    assert not store.keep()
    (tmp_path / "gone").rename(tmp_path / "state")
    assert store.keep()
    assert path.read_text() == store.text
    assert store.replace(kit.trust_document(3), NOW)
    assert store.unstored is None
    assert path.read_text() == store.text


def test_what_is_stored_later_is_in_force_at_once_and_due(kit: IdentityKit, tmp_path: Path) -> None:
    path, due = tmp_path / "trust.jws", []
    store = TrustStore(path)
    store.store_later(lambda: due.append(store.text))
    store.replace(kit.trust_document(1), NOW)
    assert path.read_text() == store.text, "without the first there is nothing to restart with"
    store.replace(kit.trust_document(2), NOW)
    assert (store.current is not None and store.current.sequence, due[1:]) == (2, [store.text])
    assert path.read_text() == due[0]
    assert not store.kept
    assert store.keep()
    assert store.kept
    assert path.read_text() == store.text


def test_a_document_that_comes_while_another_is_stored_is_no_disk_that_takes_nothing(
    kit: IdentityKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, due = tmp_path / "trust.jws", []
    store = TrustStore(path)
    store.store_later(lambda: due.append(store.text))
    store.replace(kit.trust_document(1), NOW)
    store.replace(kit.trust_document(2), NOW)

    def slow(place: Path, content: bytes) -> None:
        monkeypatch.undo()
        write_secret(place, content)
        store.replace(kit.trust_document(3), NOW)

    monkeypatch.setattr("certs.trust.write_secret", slow)
    assert store.keep()
    assert not store.kept
    assert due[-1] == store.text, "it is tried again at once"
    assert store.keep()
    assert (store.kept, path.read_text()) == (True, store.text)


def test_a_damaged_file_says_what_to_do(kit: IdentityKit, tmp_path: Path) -> None:
    path = tmp_path / "trust.jws"
    TrustStore(path).replace(kit.trust_document(1), NOW)
    text = path.read_bytes()
    for damaged in (b"", text[:-9], b"\xff" + text, text.replace(b".", b"..", 1), text[:-3] + b"AAA"):
        path.write_bytes(damaged)
        with pytest.raises(CertificateError, match="remove it"):
            TrustStore(path)
    path.chmod(0o644)
    with pytest.raises(CertificateError, match="chmod 600"):
        TrustStore(path)


def test_a_subscription_ends(kit: IdentityKit) -> None:
    store, seen = TrustStore(), []
    unsubscribe = store.subscribe(lambda current: seen.append(current.sequence))
    unsubscribe()
    unsubscribe()
    store.replace(kit.trust_document(1), NOW)
    assert seen == []


CLAIMS = TokenClaims(
    kind=TokenKind.ASSERTION, token_id="j", subject="s", issuer="i", audience="a", issued_at=1, expires_at=2,
    workspace_id="ws-1", node_id="nd-1", origin_token_id="o", signer_serial="ab",
)  # fmt: skip


@pytest.mark.parametrize(
    "revocations",
    [Revocations(token_ids={"j": 9}), Revocations(token_ids={"o": 9}), Revocations(certificates={"ab": 9}),
     Revocations(certificates={"cd": 9}), Revocations(nodes=["nd-1"]), Revocations(workspaces=["ws-1"])],
)  # fmt: skip
def test_each_revocation_is_found(kit: IdentityKit, revocations: Revocations) -> None:
    revoked = document(kit, revocations=revocations)
    assert revoked.verdict(CLAIMS, NOW, certificate_serial="cd") is not None
    assert document(kit).verdict(CLAIMS, NOW, certificate_serial="cd") is None


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("token", "j"),
        ("token", "o"),
        ("certificate", "ab"),
        ("certificate", "cd"),
        ("node", "nd-1"),
        ("workspace", "ws-1"),
    ],
)
def test_locks_end_by_themselves(kit: IdentityKit, kind: str, name: str) -> None:
    locked = document(kit, locks=(TrustLock(kind, name, int(NOW)),))
    assert locked.verdict(CLAIMS, NOW - 1, certificate_serial="cd") is not None
    assert locked.verdict(CLAIMS, NOW, certificate_serial="cd") is None
    other = document(kit, locks=(TrustLock(kind, "other", int(NOW)),))
    assert other.verdict(CLAIMS, NOW - 1, certificate_serial="cd") is None


def test_large_documents_are_bounded_and_bearable(kit: IdentityKit) -> None:
    many = Revocations(token_ids={f"{n:032x}": 2_000_000_000 for n in range(40_000)})
    text = kit.trust_document(1, revocations=many)
    assert len(verify_trust_document(text, kit.roots, NOW).revocations.token_ids) == 40_000
    too_many = Revocations(token_ids={f"{n:032x}": 2_000_000_000 for n in range(80_000)})
    with pytest.raises(CertificateError, match="longer than"):
        kit.trust_document(1, revocations=too_many)
    with pytest.raises(CertificateError, match="longer than"):
        verify_trust_document("A" * (4 * 1024 * 1024 + 1), kit.roots, NOW)


def test_a_revocation_goes_before_a_lock_and_the_verdict_names_it(kit: IdentityKit) -> None:
    locks = (TrustLock("node", "nd-1", int(NOW) + 60),)
    assert document(kit, locks=locks).verdict(CLAIMS, NOW) == TrustVerdict(True, "node", "nd-1")
    both = document(kit, locks=locks, revocations=Revocations(workspaces=["ws-1"]))
    assert both.verdict(CLAIMS, NOW) == TrustVerdict(False, "workspace", "ws-1")


def test_one_fingerprint_for_one_content_whatever_its_number_time_and_signature(kit: IdentityKit) -> None:
    first, again = document(kit), document(kit, sequence=9, issued_at=int(NOW) + 5)
    texts = [sign_trust_document(one, kit.control_plane) for one in (first, again)]
    assert texts[0] != texts[1]
    assert {content_fingerprint(first), *map(fingerprint_of_text, texts)} == {content_fingerprint(again)}
    other = document(kit, revocations=Revocations(nodes=frozenset({"nd-1"})))
    assert content_fingerprint(other) != content_fingerprint(first)


def test_a_fingerprint_counts_what_a_later_release_adds(kit: IdentityKit) -> None:
    claims = write_trust_claims(document(kit))
    later = forge(kit.control_plane, {**claims, "of_a_later_release": 1})
    assert fingerprint_of_text(later) != content_fingerprint(document(kit))
    with pytest.raises(CertificateError):
        fingerprint_of_text("garbage")


def test_a_held_document_is_genuine_though_its_signer_has_expired(kit: IdentityKit, stranger: IdentityKit) -> None:
    text = kit.trust_document(3)
    much_later = NOW + 400 * 86_400
    with pytest.raises(CertificateError):
        verify_trust_document(text, kit.roots, much_later)
    assert verify_held_trust_document(text, kit.roots).sequence == 3
    for refused in (stranger.trust_document(3), text[:-4] + "AAAA", "garbage"):
        with pytest.raises(CertificateError):
            verify_held_trust_document(refused, kit.roots)
    relay = kit.issue_relay()
    with pytest.raises(CertificateError, match="not signed by the control plane"):
        verify_held_trust_document(forge(relay, write_trust_claims(document(kit))), kit.roots)


def test_going_back_is_told_from_what_is_not_genuine(kit: IdentityKit) -> None:
    store = TrustStore()
    store.replace(kit.trust_document(5), NOW)
    other = Revocations(nodes=frozenset({"nd-1"}))
    for text in (kit.trust_document(4), kit.trust_document(5, revocations=other)):
        with pytest.raises(TrustRollbackError):
            store.replace(text, NOW)
    with pytest.raises(CertificateError) as refused:
        store.replace("garbage", NOW)
    assert not isinstance(refused.value, TrustRollbackError)
