"""Compute Engine's identity tokens: everything is looked at before any key is fetched."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import jwt
import pytest

from certs.errors import TokenError, TokenErrorCode
from certs.gcp import GcpPolicy, GcpVerifier, bound_audience
from certs.jwks import KeySetError, KeySets
from tests.support.rsa_keys import KEY

NOW = 1_800_000_000.0
NONCE = "0123456789abcdef" * 2
COMPUTE = {
    "project_id": "my-project",
    "project_number": 123456789012,
    "zone": "europe-west3-c",
    "instance_id": "1234567890123456789",
    "instance_name": "vm-1",
    "license_id": ["1"],
}
CLAIMS = {
    "iss": "https://accounts.google.com",
    "aud": bound_audience("https://control.example", NONCE),
    "iat": int(NOW),
    "exp": int(NOW) + 3600,
    "email": "node@my-project.iam.gserviceaccount.com",
    "email_verified": True,
    "google": {"compute_engine": COMPUTE},
}


class Clock:
    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
async def verifier() -> AsyncIterator[GcpVerifier]:
    policy = GcpPolicy("https://control.example", frozenset({"my-project"}), keys_url="https://localhost:1/certs")
    async with aiohttp.ClientSession() as session:
        yield GcpVerifier(policy, KeySets(session, Clock()))


def token(**changes: Any) -> str:
    kept = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}
    return jwt.PyJWS().encode(json.dumps(kept).encode(), KEY, "RS256", headers={"kid": "k1", "typ": "JWT"})


async def test_what_is_allowed_is_what_keys_are_fetched_for(verifier: GcpVerifier) -> None:
    with pytest.raises(KeySetError):
        await verifier.verify(token(), NONCE, NOW)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"iss": "accounts.google.com"}, TokenErrorCode.WRONG_ISSUER),
        ({"aud": "https://control.example"}, TokenErrorCode.WRONG_AUDIENCE),
        ({"aud": [CLAIMS["aud"]]}, TokenErrorCode.WRONG_AUDIENCE),
        ({"aud": bound_audience("https://control.example", "f" * 32)}, TokenErrorCode.WRONG_AUDIENCE),
        ({"exp": int(NOW) - 61}, TokenErrorCode.EXPIRED),
        ({"iat": int(NOW) - 3661}, TokenErrorCode.LIFETIME),
        ({"iat": int(NOW) + 61}, TokenErrorCode.NOT_YET_VALID),
        ({"google": None}, TokenErrorCode.BAD_CLAIMS),
        ({"google": {}}, TokenErrorCode.BAD_CLAIMS),
        ({"google": {"compute_engine": COMPUTE | {"project_id": "other-project"}}}, TokenErrorCode.WRONG_ISSUER),
        ({"google": {"compute_engine": COMPUTE | {"instance_id": 5}}}, TokenErrorCode.BAD_CLAIMS),
        ({"google": {"compute_engine": COMPUTE | {"instance_id": "5:6"}}}, TokenErrorCode.BAD_CLAIMS),
        ({"google": {"compute_engine": COMPUTE | {"zone": "../x"}}}, TokenErrorCode.BAD_CLAIMS),
        ({"email_verified": "true"}, TokenErrorCode.BAD_CLAIMS),
        ({"email": "x"}, TokenErrorCode.BAD_CLAIMS),
    ],
)
async def test_what_is_not_allowed_costs_no_request(
    verifier: GcpVerifier, changes: dict[str, Any], code: TokenErrorCode
) -> None:
    with pytest.raises(TokenError) as refused:
        await verifier.verify(token(**changes), NONCE, NOW)
    assert refused.value.code is code
