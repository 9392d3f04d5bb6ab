"""Signed messages: whose signature it is, and nothing else that lies in the bag."""

from datetime import UTC, datetime

import pytest
from asn1crypto import cms as asn1_cms
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs7

from certs.errors import CertificateError
from control_plane.attestation.azure_document import DocumentAnchors, read_attested_document
from control_plane.attestation.cms import MAX_MESSAGE_BYTES, read_signed
from control_plane.attestation.refusals import AttestationRefused
from tests.support.rsa_keys import KEY
from tests.support.rsa_keys import OTHER_KEY as STRANGER_KEY
from trunkline.sandbox.emulated_keys import make_chain

HOST = "metadata.azure.com"
CONTENT = b'{"a":1}'
SIGNER, ROOT = make_chain(KEY, HOST)
STRANGER, STRANGER_ROOT = make_chain(STRANGER_KEY, HOST)
ATTRIBUTES = [pkcs7.PKCS7Options.Binary]
PLAIN = [pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.NoAttributes]
BARE = [pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.NoCerts]


def signed(
    options=PLAIN,
    *,
    content=CONTENT,
    certificate=SIGNER,
    key=KEY,
    bag=(),
    algorithm=None,
) -> bytes:
    builder = pkcs7.PKCS7SignatureBuilder().set_data(content)
    builder = builder.add_signer(certificate, key, algorithm or hashes.SHA256())
    for further in bag:
        builder = builder.add_certificate(further)
    return builder.sign(serialization.Encoding.DER, options)


def changed(message: bytes, change) -> bytes:
    """The message after `change` has had its SignedData."""
    wrapped = asn1_cms.ContentInfo.load(message)
    change(wrapped["content"])
    return bytes(wrapped.dump(force=True))


def in_order(*certificates):
    def change(data):
        choices = [asn1_cms.CertificateChoices("certificate", asn1_of(one)) for one in certificates]
        data["certificates"] = asn1_cms.CertificateSet(choices)

    return change


def asn1_of(certificate: x509.Certificate):
    return asn1_x509.Certificate.load(certificate.public_bytes(serialization.Encoding.DER))


@pytest.mark.parametrize("options", [PLAIN, ATTRIBUTES])
def test_a_signed_document(options):
    read = read_signed(signed(options))
    assert (read.content, read.signer, read.others) == (CONTENT, SIGNER, ())


def test_the_signer_may_be_known_beforehand():
    assert read_signed(signed(BARE), known=[STRANGER, SIGNER]).signer == SIGNER
    with pytest.raises(CertificateError, match="not exactly one"):
        read_signed(signed(BARE))


@pytest.mark.parametrize("algorithm", [hashes.SHA384(), hashes.SHA512()])
def test_other_digests(algorithm):
    assert read_signed(signed(ATTRIBUTES, algorithm=algorithm)).content == CONTENT


def test_a_key_on_a_curve():
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(SIGNER.subject)
        .issuer_name(SIGNER.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2040, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    assert read_signed(signed(certificate=certificate, key=key)).signer == certificate


@pytest.mark.parametrize("order", [(SIGNER, STRANGER), (STRANGER, SIGNER)])
def test_a_genuine_certificate_beside_a_foreign_signer_is_not_taken_for_the_signer(order):
    message = changed(signed(certificate=STRANGER, key=STRANGER_KEY, bag=[SIGNER]), in_order(*order))
    assert read_signed(message).signer == STRANGER
    import base64

    anchors = DocumentAnchors(roots=(ROOT,), host=HOST)
    with pytest.raises(AttestationRefused, match="no path to a pinned root"):
        read_attested_document(base64.b64encode(message).decode(), "0" * 32, anchors, datetime.now(UTC).timestamp())


def test_a_foreign_signature_under_a_genuine_name():
    """The signer's identifier names the genuine certificate, the signature is a stranger's."""
    genuine = asn1_cms.ContentInfo.load(signed())["content"]["signer_infos"][0]["sid"]

    def rename(data):
        data["signer_infos"][0]["sid"] = genuine
        in_order(SIGNER)(data)

    with pytest.raises(CertificateError, match="signature is wrong"):
        read_signed(changed(signed(certificate=STRANGER, key=STRANGER_KEY), rename))


def test_two_certificates_of_one_name():
    """A stranger's certificate with issuer and serial number of the genuine one makes the signer unclear."""
    twin = (
        x509.CertificateBuilder()
        .subject_name(SIGNER.subject)
        .issuer_name(SIGNER.issuer)
        .public_key(STRANGER_KEY.public_key())
        .serial_number(SIGNER.serial_number)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2040, 1, 1, tzinfo=UTC))
        .sign(STRANGER_KEY, hashes.SHA256())
    )
    message = signed(certificate=twin, key=STRANGER_KEY)
    assert read_signed(message).signer == twin
    with pytest.raises(CertificateError, match="not exactly one"):
        read_signed(message, known=[SIGNER])


def other_content(data):
    data["encap_content_info"]["content"] = b'{"a":2}'


def no_content(data):
    data["encap_content_info"] = {"content_type": "data"}


def no_signer(data):
    data["signer_infos"] = []


def two_signers(data):
    data["signer_infos"] = [data["signer_infos"][0], data["signer_infos"][0]]


def weak_digest(data):
    data["signer_infos"][0]["digest_algorithm"] = {"algorithm": "sha1"}


def other_signature(data):
    data["signer_infos"][0]["signature"] = b"\x01" * 256


@pytest.mark.parametrize("options", [PLAIN, ATTRIBUTES])
@pytest.mark.parametrize("change", [other_content, no_content, no_signer, two_signers, weak_digest, other_signature])
def test_what_was_changed_is_refused(change, options):
    with pytest.raises(CertificateError):
        read_signed(changed(signed(options), change))


def without(name):
    def change(data):
        kept = [one for one in data["signer_infos"][0]["signed_attrs"] if one["type"].native != name]
        data["signer_infos"][0]["signed_attrs"] = kept

    return change


@pytest.mark.parametrize("name", ["content_type", "message_digest"])
def test_attributes_that_must_be_there(name):
    with pytest.raises(CertificateError, match=name):
        read_signed(changed(signed(ATTRIBUTES), without(name)))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x30\x80",
        b"\x30\x00",
        b"A" * 100,
        signed() + b"\x00",
        signed()[:-1],
        b"0" * (MAX_MESSAGE_BYTES + 1),
        signed(content=b"x" * 9_000),
        signed(bag=[STRANGER] * 1 + [ROOT, STRANGER_ROOT])[:200],
    ],
)
def test_garbage(message):
    with pytest.raises(CertificateError):
        read_signed(message)


def test_every_cut_is_refused_cleanly():
    message = signed(ATTRIBUTES)
    for length in range(0, len(message), 37):
        with pytest.raises(CertificateError):
            read_signed(message[:length])


def test_a_weak_key():
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - what is to be refused
    weak, _ = make_chain(key, HOST)
    with pytest.raises(CertificateError, match="bits"):
        read_signed(signed(certificate=weak, key=key))


def test_the_signer_is_named_as_its_certificate_spells_it():
    def shout(data):
        shouted = asn1_x509.Name.build({"common_name": "EMULATED DOCUMENT ROOT"})
        data["signer_infos"][0]["sid"].chosen["issuer"] = shouted

    with pytest.raises(CertificateError, match="not exactly one"):
        read_signed(changed(signed(), shout))


P256, UNKNOWN_CURVE = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d030163")
RSA, UNKNOWN_KEY = bytes.fromhex("06092a864886f70d010101"), bytes.fromhex("06092a864886f70d010163")
VERSION, UNKNOWN_VERSION = bytes.fromhex("a003020102"), bytes.fromhex("a003020109")


@pytest.mark.parametrize(("known", "unknown"), [(RSA, UNKNOWN_KEY), (VERSION, UNKNOWN_VERSION)])
def test_certificates_that_the_library_does_not_know_are_refused(known: bytes, unknown: bytes):
    """It raises errors of other kinds for these than for what is malformed."""
    message = signed()
    assert known in message
    with pytest.raises(CertificateError):
        read_signed(message.replace(known, unknown))
