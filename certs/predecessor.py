"""A predecessor's word: a node that proves itself anew by its evidence shows that it is no copy, by its earlier key.

It is a JWS of a type of its own over the evidence nonce, signed with the key of the certificate that the node had,
which may have expired; it names that certificate, which the control plane has on record. Without it, a machine that
attests while its node is online is another instance of it: a clone.
"""

import re
from dataclasses import dataclass

from certs.errors import TokenError, TokenErrorCode
from certs.identities import Identity
from certs.jose import CompactToken, check_signature, parse_compact, write_compact
from certs.spiffe import control_plane_id

PREDECESSOR_TYPE = "tl-predecessor+jwt"

_SERIAL = re.compile(r"[0-9a-f]{1,40}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PredecessorWord:
    """What the word states; nothing of it is to be believed before `verify`."""

    serial: str
    _token: CompactToken

    def verify(self, key: object) -> None:
        """Check the signature with the public key of the certificate on record.

        Raises:
            TokenError: it is not signed by that key.
        """
        check_signature(self._token, key)


def sign_predecessor(identity: Identity, nonce: str) -> str:
    """The word of `identity`, for one evidence nonce.

    Raises:
        CertificateError: the identity is not one that signs.
    """
    audience = str(control_plane_id(identity.spiffe_id.trust_domain))
    claims = {"aud": audience, "serial": identity.serial, "nonce": nonce}
    return write_compact({"typ": PREDECESSOR_TYPE}, claims, identity.signing_key())


def read_predecessor(text: str, *, nonce: str, trust_domain: str) -> PredecessorWord:
    """Take a word apart, strictly.

    Raises:
        TokenError: it is malformed, of another type, or for another control plane or challenge.
    """
    token = parse_compact(text)
    if token.media_type != PREDECESSOR_TYPE:
        raise TokenError(TokenErrorCode.WRONG_KIND, "this is not the word of a predecessor")
    if token.claims.get("aud") != str(control_plane_id(trust_domain)) or token.claims.get("nonce") != nonce:
        raise TokenError(TokenErrorCode.WRONG_AUDIENCE, "the word is for another control plane or another challenge")
    serial = token.claims.get("serial")
    if not isinstance(serial, str) or not _SERIAL.fullmatch(serial):
        raise TokenError(TokenErrorCode.BAD_CLAIMS, "the word's serial is malformed")
    return PredecessorWord(serial, token)
