"""What evidence is bound to."""

from certs.evidence_nonce import evidence_nonce


def test_a_nonce_is_what_every_cloud_takes():
    nonce = evidence_nonce("challenge", "csr")
    assert len(nonce) == 32
    assert nonce.isalnum()
    assert nonce == evidence_nonce("challenge", "csr")


def test_both_parts_and_their_border_count():
    nonces = {evidence_nonce(*parts) for parts in (("a", "b"), ("ab", ""), ("", "ab"), ("b", "a"), ("a", "b "))}
    assert len(nonces) == 5
