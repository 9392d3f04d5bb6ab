"""Compact JWS, strictly: the parser that looks before any cryptography does, the writer, and signature checks.

The parser accepts one spelling only: three parts of canonical base64url, UTF-8 JSON objects without duplicate members
at any level, bounded nesting, integers in range, and a header without the members by which a token would choose its
own key or its own rules (RFC 8725 sections 3.1 to 3.10). PyJWT checks the signature afterwards, with one algorithm
that the key prescribes, never the token.
"""

import re
from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from jwt import PyJWS
from jwt.exceptions import PyJWTError

from certs.chains import MAX_CHAIN_CERTIFICATES, CertificateChain
from certs.encoding import canonical_json, decode_base64, decode_base64url, encode_base64url, strict_json_object
from certs.errors import CertificateError, TokenError, TokenErrorCode
from certs.signing import ALGORITHMS, PublicKey, SigningKey, algorithm_of, jws_signature, signing_public_key

MAX_TOKEN_BYTES = 4096
"""Longest token accepted; it travels in a header field."""
MAX_HEADER_DEPTH = 2
"""An object with an array in it: `x5c`."""
MAX_CLAIMS_DEPTH = 3
SIGNATURE_BYTES = 64
"""Of ES256 and of Ed25519 alike."""

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)
_KEY_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}", re.ASCII)
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,64}", re.ASCII)
_REFUSED_MEMBERS = frozenset({"crit", "jku", "jwk", "x5u", "b64", "zip", "enc"})


@dataclass(frozen=True, slots=True)
class CompactToken:
    """A JWS whose form is sound and whose signature nobody has checked yet."""

    text: str
    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    media_type: str
    algorithm: str
    key_id: str | None


@dataclass(frozen=True, slots=True)
class UnreadToken:
    """A JWS whose header is sound, and whose claims are to be read once its signature is known to be good."""

    text: str
    header: Mapping[str, Any]
    media_type: str
    algorithm: str
    unread: str

    def claims(self, depth: int) -> Mapping[str, Any]:
        """The claims, read now: strict JSON, nested at most so deep.

        Raises:
            TokenError: MALFORMED.
        """
        return _json_part(self.unread, depth)


def parse_compact(
    text: str,
    *,
    maximum_bytes: int = MAX_TOKEN_BYTES,
    claims_depth: int = MAX_CLAIMS_DEPTH,
    algorithms: Collection[str] = ALGORITHMS,
    signature_bytes: Collection[int] = (SIGNATURE_BYTES,),
) -> CompactToken:
    """Take `text` apart without trusting any of it.

    `algorithms` and `signature_bytes` differ from ours only for tokens of other issuers.

    Raises:
        TokenError: TOO_LARGE, MALFORMED, or ALGORITHM when `alg` is not among `algorithms`; never anything else.
    """
    parts = _parts(text, maximum_bytes)
    header = _json_part(parts[1], MAX_HEADER_DEPTH)
    claims = _json_part(parts[2], claims_depth)
    if len(_decoded(parts[3])) not in signature_bytes:
        raise _malformed("the signature has the wrong length")
    return CompactToken(text, header, claims, _media_type(header), _algorithm(header, algorithms), _key_id(header))


def parse_unread(text: str, *, maximum_bytes: int, maximum_header_bytes: int) -> UnreadToken:
    """Take `text` apart and read its header only, for claims that may be too long to be read for anybody.

    Both bounds are of what is encoded.

    Raises:
        TokenError: TOO_LARGE, MALFORMED, or ALGORITHM; never anything else.
    """
    parts = _parts(text, maximum_bytes)
    if len(parts[1]) > maximum_header_bytes:
        raise TokenError(TokenErrorCode.TOO_LARGE, f"the token's header is longer than {maximum_header_bytes} bytes")
    header = _json_part(parts[1], MAX_HEADER_DEPTH)
    if len(_decoded(parts[3])) != SIGNATURE_BYTES:
        raise _malformed("the signature has the wrong length")
    media_type, algorithm = _media_type(header), _algorithm(header, ALGORITHMS)
    _key_id(header)
    return UnreadToken(text, header, media_type, algorithm, parts[2])


def write_compact(header: Mapping[str, Any], claims: Mapping[str, Any], key: SigningKey) -> str:
    """The compact JWS of `claims`, signed by `key`; `alg` is the key's."""
    full = {**header, "alg": key.algorithm}
    message = f"{encode_base64url(canonical_json(full))}.{encode_base64url(canonical_json(claims))}"
    return f"{message}.{encode_base64url(jws_signature(key, message.encode('ascii')))}"


def check_signature(token: CompactToken | UnreadToken, key: object) -> None:
    """Let PyJWT check the signature with `key` and the key's own algorithm.

    Raises:
        TokenError: ALGORITHM when the token names another one or the key is of a kind that never signs here,
            BAD_SIGNATURE when it is not signed by the key.
    """
    public, algorithm = _usable(key)
    if token.algorithm != algorithm:
        raise TokenError(TokenErrorCode.ALGORITHM, "the token's algorithm is not that of its key")
    try:
        PyJWS(algorithms=[algorithm]).decode(token.text, public, algorithms=[algorithm])
    except (PyJWTError, ValueError, TypeError) as error:
        raise TokenError(TokenErrorCode.BAD_SIGNATURE, "the token's signature is wrong") from error


def _usable(key: object) -> tuple[PublicKey, str]:
    try:
        public = signing_public_key(key)
    except CertificateError as error:
        raise TokenError(TokenErrorCode.ALGORITHM, "the key is neither P-256 nor Ed25519") from error
    return public, algorithm_of(public)


def chain_of(token: CompactToken | UnreadToken) -> CertificateChain:
    """The certificates in the token's `x5c` member, leaf first; not verified.

    Raises:
        TokenError: BAD_CHAIN when there are none, too many, or they cannot be read.
    """
    values = token.header.get("x5c")
    if not isinstance(values, list) or not 0 < len(values) <= MAX_CHAIN_CERTIFICATES:
        raise TokenError(TokenErrorCode.BAD_CHAIN, "the token carries no certificate chain of acceptable length")
    try:
        return CertificateChain.from_der([decode_base64(_text(value)) for value in values])
    except (ValueError, CertificateError) as error:
        raise TokenError(TokenErrorCode.BAD_CHAIN, "the token's certificate chain cannot be read") from error


def chain_member(certificates: Sequence[x509.Certificate]) -> list[str]:
    """The value of `x5c` for these certificates (RFC 7515 section 4.1.6)."""
    return [b64encode(certificate.public_bytes(Encoding.DER)).decode("ascii") for certificate in certificates]


def _parts(text: str, maximum_bytes: int) -> re.Match[str]:
    if len(text) > maximum_bytes:
        raise TokenError(TokenErrorCode.TOO_LARGE, f"the token is longer than {maximum_bytes} bytes")
    parts = _COMPACT.fullmatch(text)
    if parts is None:
        raise _malformed("the token is not three parts of base64url")
    return parts


def _json_part(part: str, depth: int) -> dict[str, Any]:
    try:
        return strict_json_object(_decoded(part), max_depth=depth)
    except ValueError as error:
        raise _malformed("a part of the token is not strict JSON") from error


def _decoded(part: str) -> bytes:
    try:
        return decode_base64url(part)
    except ValueError as error:
        raise _malformed("a part of the token is not canonical base64url") from error


def _media_type(header: Mapping[str, Any]) -> str:
    refused = _REFUSED_MEMBERS.intersection(header)
    if refused:
        raise _malformed(f"the token's header has a member that is refused here: {min(refused)}")
    media_type = header.get("typ")
    if not isinstance(media_type, str) or not _MEDIA_TYPE.fullmatch(media_type):
        raise _malformed("the token has no typ")
    return media_type


def _algorithm(header: Mapping[str, Any], algorithms: Collection[str]) -> str:
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise TokenError(TokenErrorCode.ALGORITHM, f"the token's algorithm is not {' or '.join(sorted(algorithms))}")
    return algorithm


def _key_id(header: Mapping[str, Any]) -> str | None:
    key_id = header.get("kid")
    if key_id is not None and (not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id)):
        raise _malformed("the token's kid is malformed")
    return key_id


def _text(value: object) -> str:
    if not isinstance(value, str):
        msg = "not a string"
        raise ValueError(msg)
    return value


def _malformed(message: str) -> TokenError:
    return TokenError(TokenErrorCode.MALFORMED, message)
