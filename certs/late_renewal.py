"""The request for a late renewal: made by whoever's certificate has expired, and signed with that certificate's key.

It is a JWS of a type of its own, so that nothing else that the key signs can be passed off as one. It is for one
audience, names the certificate, and binds the control plane's single-use nonce to the one signing request that is to be
answered and, of a node, its next sealing key. It carries no time: the nonce is what makes it fresh, since whoever was
off for weeks may not know the time.
"""

import hashlib
import re
from dataclasses import dataclass

from certs.encoding import encode_base64url
from certs.errors import TokenError, TokenErrorCode
from certs.identities import Identity
from certs.jose import CompactToken, check_signature, parse_compact, write_compact
from certs.spiffe import control_plane_id

LATE_RENEWAL_TYPE = "tl-late-renewal+jwt"

_SERIAL = re.compile(r"[0-9a-f]{1,40}", re.ASCII)
_MEMBERS = ("aud", "sub", "serial", "nonce", "csr_sha256")
_LONGEST_MEMBER = 512


@dataclass(frozen=True, slots=True)
class LateRenewalRequest:
    """What a request states; its signature is checked with `verify`, by whoever knows the certificate it names.

    `sealing_key` is empty where the request has none: relays have none.
    """

    subject: str
    serial: str
    nonce: str
    csr_sha256: str
    sealing_key: str
    _token: CompactToken

    def verify(self, key: object) -> None:
        """Check the signature with the public key of the certificate on record.

        Raises:
            TokenError: it is not signed by that key.
        """
        check_signature(self._token, key)


def csr_digest(csr: str) -> str:
    """The base64url SHA-256 of a signing request's text."""
    return encode_base64url(hashlib.sha256(csr.encode("utf-8", "surrogatepass")).digest())


def sign_late_renewal(identity: Identity, *, nonce: str, csr: str, sealing_key: str = "") -> str:
    """The request of `identity` for a certificate by `csr`; a node states its next sealing key.

    Raises:
        CertificateError: the identity is not one that signs.
    """
    spiffe_id = identity.spiffe_id
    claims = {
        "aud": str(control_plane_id(spiffe_id.trust_domain)),
        "sub": str(spiffe_id),
        "serial": identity.serial,
        "nonce": nonce,
        "csr_sha256": csr_digest(csr),
    }
    if sealing_key:
        claims["sealing_key"] = sealing_key
    return write_compact({"typ": LATE_RENEWAL_TYPE}, claims, identity.signing_key())


def read_late_renewal(text: str, *, trust_domain: str) -> LateRenewalRequest:
    """Take a request apart, strictly; nothing in it is to be believed before `verify`.

    Raises:
        TokenError: it is malformed, of another type, or meant for another control plane.
    """
    token = parse_compact(text)
    if token.media_type != LATE_RENEWAL_TYPE:
        raise TokenError(TokenErrorCode.WRONG_KIND, "this is not a request for a late renewal")
    audience, subject, serial, nonce, csr_sha256 = (_text(token, name) for name in _MEMBERS)
    sealing_key = _text(token, "sealing_key") if "sealing_key" in token.claims else ""
    if audience != str(control_plane_id(trust_domain)):
        raise TokenError(TokenErrorCode.WRONG_AUDIENCE, "the request is meant for another control plane")
    if not _SERIAL.fullmatch(serial):
        raise TokenError(TokenErrorCode.BAD_CLAIMS, "the request's serial is malformed")
    return LateRenewalRequest(subject, serial, nonce, csr_sha256, sealing_key, token)


def _text(token: CompactToken, name: str) -> str:
    value = token.claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_MEMBER:
        raise TokenError(TokenErrorCode.BAD_CLAIMS, f"the request's {name} is missing or malformed")
    return value
