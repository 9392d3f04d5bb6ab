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

from certs.arm_ids import checked_resource_id
from certs.errors import TokenError, TokenErrorCode
from certs.foreign_tokens import bad_claim, check_rs256, check_times, parse_foreign, unknown_key
from certs.jose import CompactToken
from certs.jwks import KeySetError, KeySets

PUBLIC_AUTHORITY = "https://login.microsoftonline.com"
PUBLIC_AUTHORITY_V1 = "https://sts.windows.net"
MAX_AGE_SECONDS = 86400
"""Managed-identity tokens live for up to 24 hours, and the metadata service caches them."""
ANY_IDENTITY = "*"

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


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
        return next((tenant for tenant in self.tenants if issuer in self.issuers_of(tenant)), None)

    def issuers_of(self, tenant: str) -> frozenset[str]:
        """The issuers of the tenant's tokens, of version 1 and 2."""
        v1 = PUBLIC_AUTHORITY_V1 if self.authority_url == PUBLIC_AUTHORITY else self.authority_url
        return frozenset({f"{self.authority_url}/{tenant}/v2.0", f"{v1}/{tenant}/"})

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
        parsed = parse_foreign(token)
        identity = self._read(parsed, now)
        check_rs256(parsed, await self._key(identity.tenant_id, parsed.key_id))
        return identity

    def _read(self, parsed: CompactToken, now: float) -> ManagedIdentity:
        claims = parsed.claims
        tenant = self._policy.tenant_of(claims.get("iss"))
        if tenant is None or claims.get("tid") != tenant:
            raise TokenError(TokenErrorCode.WRONG_ISSUER, "the token's issuer or tenant is not allowed")
        if claims.get("aud") != self._policy.audience:
            raise TokenError(TokenErrorCode.WRONG_AUDIENCE, "the token is for another audience")
        issued_at, expires_at = check_times(claims, now, max_age_seconds=MAX_AGE_SECONDS)
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
        url, issuers = self._policy.keys_url(tenant), self._policy.issuers_of(tenant)
        key = await self._key_sets.find(url, key_id, issuers) if key_id else None
        if key is None:
            raise unknown_key()
        return key


def _uuid(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise bad_claim(name)
    return value


def _resource_id(claims: Mapping[str, Any], name: str) -> str | None:
    value = claims.get(name)
    if value is None:
        return None
    try:
        return checked_resource_id(value if isinstance(value, str) else "")
    except ValueError:
        raise bad_claim(name) from None


__all__ = ["AzurePolicy", "AzureVerifier", "KeySetError", "ManagedIdentity"]
