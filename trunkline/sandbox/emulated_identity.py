"""What the emulated identity service signs: tokens as a cloud's metadata service gives them, for DEVELOPMENT ONLY.

The tokens have the form of Azure's access tokens for managed identities. Their key is made by the sandbox and trusted
by nothing but the sandbox's control plane.
"""

from __future__ import annotations

import base64
import uuid
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from certs.keyfiles import read_secret, write_secret
from trunkline.sandbox.settings_files import TENANT

KEY_BITS = 2048
TOKEN_SECONDS = 3_600
_ALGORITHM = "RS256"
_NAMESPACE = uuid.UUID("5a4db0c5-0000-4000-8000-000000000000")
_SUBSCRIPTION = "00000000-0000-4000-8000-5a4db0c50000"


class EmulatedIssuer:
    """Signs tokens for the sandbox's machines with a key that is kept in a file."""

    def __init__(self, key_file: Path, authority_url: str) -> None:
        """Load the key, or make it.

        Args:
            key_file: where it is kept.
            authority_url: what tokens name as their issuer, with the tenant behind it.
        """
        self._key = _load_or_make_key(key_file)
        self._authority_url = authority_url
        public = self._key.public_key().public_numbers()
        self._key_id = _base64url_of_number(public.n)[:27]

    @property
    def issuer(self) -> str:
        """The tokens' issuer."""
        return f"{self._authority_url}/{TENANT}/v2.0"

    def access_token(self, machine: str, audience: str, now: float) -> dict[str, str]:
        """The metadata service's answer for a machine."""
        expires_at = int(now) + TOKEN_SECONDS
        return {
            "access_token": self._sign(machine, audience, int(now), expires_at),
            "client_id": client_id(machine),
            "expires_in": str(TOKEN_SECONDS),
            "expires_on": str(expires_at),
            "ext_expires_in": str(TOKEN_SECONDS),
            "not_before": str(int(now)),
            "resource": audience,
            "token_type": "Bearer",
        }

    def key_set(self) -> dict[str, Any]:
        """The public key as a JWK set (RFC 7517)."""
        public = self._key.public_key().public_numbers()
        key = {
            "kty": "RSA",
            "use": "sig",
            "alg": _ALGORITHM,
            "kid": self._key_id,
            "n": _base64url_of_number(public.n),
            "e": _base64url_of_number(public.e),
            "issuer": self.issuer,
        }
        return {"keys": [key]}

    def configuration(self) -> dict[str, Any]:
        """The issuer's metadata (OpenID Connect Discovery 1.0)."""
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self._authority_url}/{TENANT}/discovery/v2.0/keys",
            "id_token_signing_alg_values_supported": [_ALGORITHM],
        }

    def _sign(self, machine: str, audience: str, issued_at: int, expires_at: int) -> str:
        claims = {
            "iss": self.issuer,
            "aud": audience,
            "iat": issued_at,
            "nbf": issued_at,
            "exp": expires_at,
            "tid": TENANT,
            "oid": object_id(machine),
            "sub": object_id(machine),
            "appid": client_id(machine),
            "azp": client_id(machine),
            "idtyp": "app",
            "ver": "2.0",
            "uti": uuid.uuid4().hex,
            "xms_az_rid": _resource_id(machine),
            "xms_mirid": _resource_id(machine),
        }
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM, headers={"kid": self._key_id})


def object_id(machine: str) -> str:
    """The object id of a machine's identity, the same at each start."""
    return str(uuid.uuid5(_NAMESPACE, f"object/{machine}"))


def client_id(machine: str) -> str:
    """The application id of a machine's identity."""
    return str(uuid.uuid5(_NAMESPACE, f"client/{machine}"))


def _resource_id(machine: str) -> str:
    group = f"/subscriptions/{_SUBSCRIPTION}/resourcegroups/sandbox"
    return f"{group}/providers/Microsoft.Compute/virtualMachines/{machine}"


def _load_or_make_key(path: Path) -> rsa.RSAPrivateKey:
    if path.exists():
        key = serialization.load_pem_private_key(read_secret(path), password=None)
        if isinstance(key, rsa.RSAPrivateKey):
            return key
    key = rsa.generate_private_key(public_exponent=65_537, key_size=KEY_BITS)
    write_secret(
        path,
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    return key


def _base64url_of_number(number: int) -> str:
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
