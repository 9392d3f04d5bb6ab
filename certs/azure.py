"""Azure managed-identity tokens: who a machine is, according to its cloud.

The order is the defence. Form, issuer, tenant, audience, age and identity are checked against allow-lists before any
key is fetched, and the URL of the keys is made from the configuration and the allowed tenant, never taken from the
token: a stranger's token costs no request. A token issuer is one tenant's (`…/<tid>/v2.0`, or `sts.windows.net/<tid>/`
for version 1), and must name the same tenant in `tid`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from jwt import PyJWS
from jwt.exceptions import PyJWTError

from certs.claims import LEEWAY_SECONDS, MAX_TIME
from certs.errors import TokenError, TokenErrorCode
from certs.jose import CompactToken, parse_compact
from certs.jwks import KeySetError, KeySets

PUBLIC_AUTHORITY = "https://login.microsoftonline.com"
PUBLIC_AUTHORITY_V1 = "https://sts.windows.net"
MAX_AZURE_TOKEN_BYTES = 16 * 1024
MAX_AGE_SECONDS = 86400
"""Managed-identity tokens live for up to 24 hours, and the metadata service caches them."""
ANY_IDENTITY = "*"

_RS256 = "RS256"
_SIGNATURE_BYTES = range(256, 1025)
_DEPTH = 6
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_RESOURCE_ID = re.compile(r"(?:/[A-Za-z0-9_.()-]{1,120}){2,24}", re.ASCII)


@dataclass(frozen=True, slots=True)
class AzurePolicy:
    """Whose tokens are accepted: our audience, tenants, and identities (object or application ids, or `*`).

    `authority_url` takes the place of Microsoft's for an emulated issuer.
    """

    audience: str
    tenants: frozenset[str]
    identities: frozenset[str]
    authority_url: str = PUBLIC_AUTHORITY

    def tenant_of(self, issuer: object) -> str | None:
        """The allowed tenant whose issuer this is, or None."""
        if not isinstance(issuer, str):
            return None
        v1 = PUBLIC_AUTHORITY_V1 if self.authority_url == PUBLIC_AUTHORITY else self.authority_url
        for tenant in self.tenants:
            if issuer in {f"{self.authority_url}/{tenant}/v2.0", f"{v1}/{tenant}/"}:
                return tenant
        return None

    def keys_url(self, tenant: str) -> str:
        """Where the tenant's keys are."""
        return f"{self.authority_url}/{tenant}/discovery/v2.0/keys"


@dataclass(frozen=True, slots=True)
class ManagedIdentity:
    """A verified managed identity.

    `resource_id` is the ARM id of the resource that got the token (`xms_az_rid`), `identity_resource_id` that of the
    identity (`xms_mirid`), which for a system-assigned identity is the machine's too, for a user-assigned one not.
    """

    tenant_id: str
    object_id: str
    application_id: str
    resource_id: str | None
    identity_resource_id: str | None
    issued_at: int
    expires_at: int


class AzureVerifier:
    """Verifies managed-identity tokens under one policy."""

    def __init__(self, policy: AzurePolicy, key_sets: KeySets) -> None:
        self._policy = policy
        self._key_sets = key_sets

    async def verify(self, token: str, now: float) -> ManagedIdentity:
        """The identity that `token` proves at `now`.

        Raises:
            TokenError: it is refused.
            KeySetError: the tenant's keys cannot be had now; the token may be good.
        """
        parsed = parse_compact(
            token,
            maximum_bytes=MAX_AZURE_TOKEN_BYTES,
            claims_depth=_DEPTH,
            algorithms=(_RS256,),
            signature_bytes=_SIGNATURE_BYTES,
        )
        identity = self._read(parsed, now)
        check_rs256(parsed, await self._key(identity.tenant_id, parsed.key_id))
        return identity

    def _read(self, parsed: CompactToken, now: float) -> ManagedIdentity:
        claims = parsed.claims
        tenant = self._policy.tenant_of(claims.get("iss"))
        if parsed.media_type != "JWT" or tenant is None or claims.get("tid") != tenant:
            raise TokenError(TokenErrorCode.WRONG_ISSUER, "the token's issuer or tenant is not allowed")
        if claims.get("aud") != self._policy.audience:
            raise TokenError(TokenErrorCode.WRONG_AUDIENCE, "the token is for another audience")
        issued_at, expires_at = _check_times(claims, now)
        identity = ManagedIdentity(
            tenant_id=tenant,
            object_id=_uuid(claims, "oid"),
            application_id=_uuid(claims, "azp" if "azp" in claims else "appid"),
            resource_id=_resource_id(claims, "xms_az_rid"),
            identity_resource_id=_resource_id(claims, "xms_mirid"),
            issued_at=issued_at,
            expires_at=expires_at,
        )
        self._check_identity(identity)
        return identity

    def _check_identity(self, identity: ManagedIdentity) -> None:
        allowed = self._policy.identities
        if ANY_IDENTITY not in allowed and not {identity.object_id, identity.application_id} & allowed:
            raise TokenError(TokenErrorCode.BAD_CLAIMS, "the token's identity is not allowed")

    async def _key(self, tenant: str, key_id: str | None) -> rsa.RSAPublicKey:
        key = await self._key_sets.find(self._policy.keys_url(tenant), key_id) if key_id else None
        if key is None:
            raise TokenError(TokenErrorCode.UNKNOWN_KEY, "the token is signed with a key that its issuer does not have")
        return key


def check_rs256(token: CompactToken, key: rsa.RSAPublicKey) -> None:
    """Let PyJWT check an RS256 signature.

    Raises:
        TokenError: BAD_SIGNATURE.
    """
    try:
        PyJWS(algorithms=[_RS256]).decode(token.text, key, algorithms=[_RS256])
    except (PyJWTError, ValueError, TypeError) as error:
        raise TokenError(TokenErrorCode.BAD_SIGNATURE, "the token's signature is wrong") from error


def _check_times(claims: Mapping[str, Any], now: float) -> tuple[int, int]:
    issued_at, expires_at = _time(claims, "iat"), _time(claims, "exp")
    not_before = _time(claims, "nbf") if "nbf" in claims else issued_at
    if max(issued_at, not_before) - LEEWAY_SECONDS > now:
        raise TokenError(TokenErrorCode.NOT_YET_VALID, "the token is not valid yet: compare the clocks")
    if now >= expires_at + LEEWAY_SECONDS:
        raise TokenError(TokenErrorCode.EXPIRED, "the token has expired")
    if now >= issued_at + MAX_AGE_SECONDS + LEEWAY_SECONDS:
        raise TokenError(TokenErrorCode.LIFETIME, "the token is older than a day")
    return issued_at, expires_at


def _time(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    if type(value) is not int or not 0 < value <= MAX_TIME:
        raise TokenError(TokenErrorCode.BAD_CLAIMS, f"the token's claim {name} is missing or malformed")
    return value


def _uuid(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise TokenError(TokenErrorCode.BAD_CLAIMS, f"the token's claim {name} is missing or malformed")
    return value


def _resource_id(claims: Mapping[str, Any], name: str) -> str | None:
    """An ARM id in lower case (ARM compares so); a segment of dots or an escape never passes the grammar."""
    value = claims.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not _RESOURCE_ID.fullmatch(value) or {".", ".."} & set(value.split("/")):
        raise TokenError(TokenErrorCode.BAD_CLAIMS, f"the token's claim {name} is malformed")
    return value.lower()


__all__ = ["AzurePolicy", "AzureVerifier", "KeySetError", "ManagedIdentity"]
