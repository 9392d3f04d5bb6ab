"""The request for a late renewal: bound to a key, a nonce, a signing request and one control plane."""

import pytest

from certs.errors import TokenError, TokenErrorCode
from certs.identities import build_csr
from certs.jose import write_compact
from certs.keyfiles import generate_key
from certs.late_renewal import LATE_RENEWAL_TYPE, csr_digest, read_late_renewal, sign_late_renewal
from tests.support.identities import TRUST_DOMAIN, IdentityKit


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("identities"))


def test_what_is_signed_is_what_is_read(kit: IdentityKit):
    node, csr = kit.issue_node(), build_csr(generate_key())
    text = sign_late_renewal(node, nonce="n-1", csr=csr, sealing_key="s" * 43)
    request = read_late_renewal(text, trust_domain=TRUST_DOMAIN)
    assert (request.subject, request.serial, request.nonce) == (str(node.spiffe_id), node.serial, "n-1")
    assert (request.csr_sha256, request.sealing_key) == (csr_digest(csr), "s" * 43)
    request.verify(node.chain.leaf.public_key())
    with pytest.raises(TokenError) as refused:
        request.verify(kit.issue_node().chain.leaf.public_key())
    assert refused.value.code is TokenErrorCode.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("claims", "kind", "code"),
    [
        ({"aud": "spiffe://other.test/control-plane"}, LATE_RENEWAL_TYPE, TokenErrorCode.WRONG_AUDIENCE),
        ({"aud": ["spiffe://trunkline.test/control-plane"]}, LATE_RENEWAL_TYPE, TokenErrorCode.BAD_CLAIMS),
        ({"serial": "0x12"}, LATE_RENEWAL_TYPE, TokenErrorCode.BAD_CLAIMS),
        ({"serial": "a" * 41}, LATE_RENEWAL_TYPE, TokenErrorCode.BAD_CLAIMS),
        ({"nonce": ""}, LATE_RENEWAL_TYPE, TokenErrorCode.BAD_CLAIMS),
        ({"nonce": "n" * 513}, LATE_RENEWAL_TYPE, TokenErrorCode.BAD_CLAIMS),
        ({"nonce": None}, LATE_RENEWAL_TYPE, TokenErrorCode.BAD_CLAIMS),
        ({"sub": 5}, LATE_RENEWAL_TYPE, TokenErrorCode.BAD_CLAIMS),
        ({}, "tl-assertion+jwt", TokenErrorCode.WRONG_KIND),
    ],
)
def test_other_requests_are_refused(kit: IdentityKit, claims, kind: str, code: TokenErrorCode):
    right = {
        "aud": f"spiffe://{TRUST_DOMAIN}/control-plane",
        "sub": str(kit.node_spiffe_id()),
        "serial": "12",
        "nonce": "n",
        "csr_sha256": "c",
        "sealing_key": "s",
    }
    text = write_compact({"typ": kind}, right | claims, kit.issue_node().signing_key())
    with pytest.raises(TokenError) as refused:
        read_late_renewal(text, trust_domain=TRUST_DOMAIN)
    assert refused.value.code is code
