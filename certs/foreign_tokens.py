"""Tokens of other issuers (RS256 JWTs of clouds): the checks that all of them share."""

from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from jwt import PyJWS
from jwt.exceptions import PyJWTError

from certs.claims import LEEWAY_SECONDS, MAX_TIME
from certs.errors import TokenError, TokenErrorCode
from certs.jose import CompactToken, parse_compact

MAX_FOREIGN_TOKEN_BYTES = 16 * 1024

_RS256 = "RS256"
_SIGNATURE_BYTES = range(256, 1025)
_DEPTH = 6


def parse_foreign(token: str) -> CompactToken:
    """Take an RS256 token of another issuer apart without trusting any of it.

    Raises:
        TokenError: TOO_LARGE, MALFORMED, ALGORITHM, or MALFORMED for a `typ` that is not JWT.
    """
    parsed = parse_compact(
        token,
        maximum_bytes=MAX_FOREIGN_TOKEN_BYTES,
        claims_depth=_DEPTH,
        algorithms=(_RS256,),
        signature_bytes=_SIGNATURE_BYTES,
    )
    if parsed.media_type != "JWT":
        raise TokenError(TokenErrorCode.MALFORMED, "the token's typ is not JWT")
    return parsed


def check_rs256(token: CompactToken, key: rsa.RSAPublicKey) -> None:
    """Let PyJWT check an RS256 signature.

    Raises:
        TokenError: BAD_SIGNATURE.
    """
    try:
        PyJWS(algorithms=[_RS256]).decode(token.text, key, algorithms=[_RS256])
    except (PyJWTError, ValueError, TypeError) as error:
        raise TokenError(TokenErrorCode.BAD_SIGNATURE, "the token's signature is wrong") from error


def check_times(claims: Mapping[str, Any], now: float, *, max_age_seconds: float) -> tuple[int, int]:
    """The times at which a token was issued and expires, if it is in force and not older than `max_age_seconds`.

    Raises:
        TokenError: NOT_YET_VALID, EXPIRED, LIFETIME, or BAD_CLAIMS for a time that is missing or no integer.
    """
    issued_at, expires_at = _time(claims, "iat"), _time(claims, "exp")
    not_before = _time(claims, "nbf") if "nbf" in claims else issued_at
    if max(issued_at, not_before) - LEEWAY_SECONDS > now:
        raise TokenError(TokenErrorCode.NOT_YET_VALID, "the token is not valid yet: compare the clocks")
    if now >= expires_at + LEEWAY_SECONDS:
        raise TokenError(TokenErrorCode.EXPIRED, "the token has expired")
    if now >= issued_at + max_age_seconds + LEEWAY_SECONDS:
        raise TokenError(TokenErrorCode.LIFETIME, f"the token is older than {max_age_seconds:g} s")
    return issued_at, expires_at


def bad_claim(name: str) -> TokenError:
    """The refusal of one claim, which is not repeated."""
    return TokenError(TokenErrorCode.BAD_CLAIMS, f"the token's claim {name} is missing or malformed")


def unknown_key() -> TokenError:
    """The refusal of a token whose key its issuer does not have."""
    return TokenError(TokenErrorCode.UNKNOWN_KEY, "the token is signed with a key that its issuer does not have")


def _time(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    if type(value) is not int or not 0 < value <= MAX_TIME:
        raise bad_claim(name)
    return value
