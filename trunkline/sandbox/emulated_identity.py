"""What the emulated clouds vouch for: tokens in the forms of Azure and Google, for DEVELOPMENT ONLY.

Their key is made by the sandbox and trusted by nothing but the sandbox's control plane.
"""

from __future__ import annotations

import base64
import uuid
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from trunkline.sandbox.emulated_keys import load_or_make_rsa
from trunkline.sandbox.emulated_machines import (
    GCP_ISSUER_PATH,
    GCP_PROJECT,
    GCP_ZONE,
    TENANT,
    client_id,
    gcp_instance_id,
    object_id,
    resource_id,
    service_account,
)

TOKEN_SECONDS = 3_600
_ALGORITHM = "RS256"


class EmulatedIssuer:
    """Signs tokens for the sandbox's machines with a key that is kept in a file."""

    def __init__(self, key_file: Path, authority_url: str) -> None:
        """Load the key, or make it.

        Args:
            key_file: where it is kept.
            authority_url: what tokens name as their issuer, with the tenant behind it.
        """
        self._key = load_or_make_rsa(key_file)
        self._authority_url = authority_url
        self._key_id = _base64url_of_number(self._public.n)[:27]

    @property
    def issuer(self) -> str:
        """The issuer of Azure's tokens."""
        return f"{self._authority_url}/{TENANT}/v2.0"

    @property
    def gcp_issuer(self) -> str:
        """The issuer of Google's tokens."""
        return self._authority_url + GCP_ISSUER_PATH

    def access_token(self, machine: str, audience: str, now: float, *, resource: str | None = None) -> dict[str, str]:
        """Azure's answer for a machine; `resource` takes the place of the machine's own id in it."""
        expires_at = int(now) + TOKEN_SECONDS
        return {
            "access_token": self._azure_token(machine, audience, int(now), resource or resource_id(machine)),
            "client_id": client_id(machine),
            "expires_in": str(TOKEN_SECONDS),
            "expires_on": str(expires_at),
            "ext_expires_in": str(TOKEN_SECONDS),
            "not_before": str(int(now)),
            "resource": audience,
            "token_type": "Bearer",
        }

    def gcp_token(self, machine: str, audience: str, now: float) -> str:
        """Google's identity token of an instance, in full."""
        compute = {
            "project_id": GCP_PROJECT,
            "project_number": 123_456_789_012,
            "zone": GCP_ZONE,
            "instance_id": gcp_instance_id(machine),
            "instance_name": machine,
            "instance_creation_timestamp": 1_700_000_000,
        }
        email = service_account(machine)
        claims = {
            "iss": self.gcp_issuer,
            "aud": audience,
            "azp": object_id(machine),
            "sub": object_id(machine),
            "email": email,
            "email_verified": True,
            "google": {"compute_engine": compute},
        }
        return self._sign(claims, int(now))

    def is_own_token(self, token: str, audience: str) -> bool:
        """Tell whether a token is one of this issuer's for the audience."""
        try:
            jwt.decode(token, self._key.public_key(), algorithms=[_ALGORITHM], audience=audience)
        except jwt.PyJWTError:
            return False
        return True

    def key_set(self, issuer: str | None = None) -> dict[str, Any]:
        """The public key as a JWK set (RFC 7517), reserved for the issuer of Azure's tokens or another."""
        key = {
            "kty": "RSA",
            "use": "sig",
            "alg": _ALGORITHM,
            "kid": self._key_id,
            "n": _base64url_of_number(self._public.n),
            "e": _base64url_of_number(self._public.e),
            "issuer": issuer or self.issuer,
        }
        return {"keys": [key]}

    def configuration(self) -> dict[str, Any]:
        """The issuer's metadata (OpenID Connect Discovery 1.0)."""
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self._authority_url}/{TENANT}/discovery/v2.0/keys",
            "id_token_signing_alg_values_supported": [_ALGORITHM],
        }

    @property
    def _public(self) -> rsa.RSAPublicNumbers:
        return self._key.public_key().public_numbers()

    def _azure_token(self, machine: str, audience: str, issued_at: int, resource: str) -> str:
        claims = {
            "iss": self.issuer,
            "aud": audience,
            "nbf": issued_at,
            "tid": TENANT,
            "oid": object_id(machine),
            "sub": object_id(machine),
            "appid": client_id(machine),
            "azp": client_id(machine),
            "idtyp": "app",
            "ver": "2.0",
            "uti": uuid.uuid4().hex,
            "xms_az_rid": resource,
            "xms_mirid": resource,
        }
        return self._sign(claims, issued_at)

    def _sign(self, claims: dict[str, Any], issued_at: int) -> str:
        times = {"iat": issued_at, "exp": issued_at + TOKEN_SECONDS}
        return jwt.encode(claims | times, self._key, algorithm=_ALGORITHM, headers={"kid": self._key_id})


def _base64url_of_number(number: int) -> str:
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
