"""Signed documents of clouds: CMS SignedData (RFC 5652, once PKCS#7) with one signer and the content inside.

The bag of certificates in such a message is the sender's to fill and proves nothing. So the order is: find the one
certificate that the signer's identifier names, check the signature with *that* certificate's key, and give that very
certificate to the caller, who alone decides whether it is trusted. A genuine certificate that lies in the bag beside a
foreign signer is never looked at.

asn1crypto reads the structure (BER, which some clouds write, included), cryptography checks the signature.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from asn1crypto import algos
from asn1crypto import cms as asn1_cms
from asn1crypto import core as asn1_core
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from certs.chains import MALFORMED_EXTENSIONS, certificate_from_der
from certs.errors import CertificateError

MAX_MESSAGE_BYTES = 16 * 1024
"""Azure's have 3 KiB, AWS's 2: what is read of a stranger's is read in Python, some of it in quadratic time."""
MAX_CONTENT_BYTES = 8 * 1024
MAX_CERTIFICATES = 8
MIN_RSA_BITS = 2048

_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
# Azure names the signature's algorithm where the digest's belongs.
_SIGNATURE_OIDS = {
    "1.2.840.113549.1.1.11": "sha256",
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.113549.1.1.13": "sha512",
}


@dataclass(frozen=True, slots=True)
class SignedContent:
    """Content whose signature is right, with the certificate of the key that made it: the caller must verify that.

    `others` are the further certificates that came along, good for nothing but building a path.
    """

    content: bytes
    signer: x509.Certificate
    others: tuple[x509.Certificate, ...]


def read_signed(message: bytes, *, known: Sequence[x509.Certificate] = ()) -> SignedContent:
    """Check the one signature of a message with the signer's certificate, from the message or among the `known`.

    Raises:
        CertificateError: it is malformed, too large, has not exactly one signer, no certificate for it or two that
            could be it, an algorithm that is too weak, or a signature that is wrong.
    """
    if len(message) > MAX_MESSAGE_BYTES:
        raise CertificateError(f"the signed document is longer than {MAX_MESSAGE_BYTES} bytes")
    try:
        signed = _signed_data(message)
        content = _content(signed)
        carried = _certificates(signed)
        (signer_info,) = signed["signer_infos"]
        signer = _the_signer(signer_info, [*known, *carried])
        algorithm = _hash(signer_info["digest_algorithm"])
        _check_signature(signer, signer_info, _to_be_verified(signed, signer_info, content, algorithm), algorithm)
    except CertificateError:
        raise
    except (*MALFORMED_EXTENSIONS, UnsupportedAlgorithm, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise CertificateError("the signed document is malformed") from error
    return SignedContent(content, signer, tuple(one for one in carried if one != signer))


def _signed_data(message: bytes) -> asn1_cms.SignedData:
    wrapped = asn1_cms.ContentInfo.load(message, strict=True)
    if wrapped["content_type"].native != "signed_data":
        raise CertificateError("the signed document is no CMS SignedData")
    return wrapped["content"]


def _content(signed: asn1_cms.SignedData) -> bytes:
    held = signed["encap_content_info"]["content"]
    content = held.native
    if not isinstance(content, bytes) or not 0 < len(content) <= MAX_CONTENT_BYTES:
        raise CertificateError("the signed document has no content, or too much")
    return content


def _certificates(signed: asn1_cms.SignedData) -> list[x509.Certificate]:
    choices = signed["certificates"]
    if isinstance(choices, asn1_core.Void):
        return []
    if len(choices) > MAX_CERTIFICATES:
        raise CertificateError(f"the signed document carries more than {MAX_CERTIFICATES} certificates")
    return [certificate_from_der(choice.chosen.dump()) for choice in choices if choice.name == "certificate"]


def _the_signer(signer_info: asn1_cms.SignerInfo, candidates: Sequence[x509.Certificate]) -> x509.Certificate:
    """Return the one certificate that the signer's identifier names (RFC 5652 section 5.3)."""
    distinct = list(dict.fromkeys(candidates))
    named = [one for one in distinct if _is_named(signer_info["sid"], one)]
    if len(named) != 1:
        raise CertificateError("the signed document's signer is not exactly one certificate")
    return named[0]


def _is_named(identifier: asn1_cms.SignerIdentifier, certificate: x509.Certificate) -> bool:
    """Tell whether the identifier is the certificate's, spelled as there: names are long to compare otherwise."""
    named = identifier.chosen
    if identifier.name == "issuer_and_serial_number":
        issuer = asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER)).issuer
        same_serial: bool = named["serial_number"].native == certificate.serial_number
        return same_serial and bool(named["issuer"].dump() == issuer.dump())
    try:
        key_id = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return False
    return bool(named.native == key_id)


def _hash(algorithm: algos.DigestAlgorithm) -> hashes.HashAlgorithm:
    name = algorithm["algorithm"].native
    kind = _HASHES.get(_SIGNATURE_OIDS.get(algorithm["algorithm"].dotted, name))
    if kind is None:
        raise CertificateError("the signed document's digest is not SHA-2")
    return kind()


def _to_be_verified(
    signed: asn1_cms.SignedData, signer_info: asn1_cms.SignerInfo, content: bytes, algorithm: hashes.HashAlgorithm
) -> bytes:
    """Return what the signature is over: the content, or the attributes that state its digest (section 5.4)."""
    content_type = signed["encap_content_info"]["content_type"]
    attributes = signer_info["signed_attrs"]
    if isinstance(attributes, asn1_core.Void) or not len(attributes):
        if content_type.native != "data":
            raise CertificateError("the signed document's content is of another type, and no attribute says so")
        return content
    if _attribute(attributes, "content_type") != content_type.native:
        raise CertificateError("the signed document's content is of another type than was signed")
    if _attribute(attributes, "message_digest") != _digest(content, algorithm):
        raise CertificateError("the signed document's content is not what was signed")
    return bytes(asn1_cms.CMSAttributes(list(attributes)).dump())


def _attribute(attributes: asn1_cms.CMSAttributes, name: str) -> object:
    found = [one["values"] for one in attributes if one["type"].native == name]
    if len(found) != 1 or len(found[0]) != 1:
        raise CertificateError(f"the signed document has not exactly one attribute {name}")
    return found[0][0].native


def _digest(content: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
    digest = hashes.Hash(algorithm)
    digest.update(content)
    return digest.finalize()


def _check_signature(
    signer: x509.Certificate, signer_info: asn1_cms.SignerInfo, signed: bytes, algorithm: hashes.HashAlgorithm
) -> None:
    key, signature = signer.public_key(), signer_info["signature"].native
    kind = signer_info["signature_algorithm"].signature_algo
    try:
        if isinstance(key, rsa.RSAPublicKey) and kind == "rsassa_pkcs1v15":
            if key.key_size < MIN_RSA_BITS:
                raise CertificateError(f"the signed document's key has less than {MIN_RSA_BITS} bits")
            key.verify(signature, signed, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey) and kind == "ecdsa":
            key.verify(signature, signed, ec.ECDSA(algorithm))
        else:
            raise CertificateError("the signed document's signature is neither RSA (PKCS #1) nor ECDSA")
    except InvalidSignature as error:
        raise CertificateError("the signed document's signature is wrong") from error
