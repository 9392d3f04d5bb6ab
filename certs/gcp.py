"""Google Compute Engine's instance identity tokens (`format=full`): which instance of which project asks.

As with managed identities, everything that can be checked is checked before any key is fetched: issuer, audience, age
and project. The audience carries the evidence nonce, so a token is good for one challenge and one key only
(https://cloud.google.com/compute/docs/instances/verifying-instance-identity).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from certs.errors import TokenError, TokenErrorCode
from certs.foreign_tokens import bad_claim, check_rs256, check_times, parse_foreign, unknown_key
from certs.jwks import KeySets

PUBLIC_ISSUER = "https://accounts.google.com"
PUBLIC_KEYS_URL = "https://www.googleapis.com/oauth2/v3/certs"
MAX_AGE_SECONDS = 3600
"""Google's instance tokens live for an hour."""

_PROJECT = re.compile(r"(?:[a-z0-9.-]{1,64}:)?[a-z][a-z0-9-]{4,61}[a-z0-9]", re.ASCII)
_INSTANCE = re.compile(r"[0-9]{1,20}", re.ASCII)
_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_ZONE = re.compile(r"(?P<region>[a-z]+-[a-z]+[0-9]{1,2})-[a-z]", re.ASCII)
_EMAIL = re.compile(r"[A-Za-z0-9._-]{1,128}@[A-Za-z0-9.-]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class GcpPolicy:
    """Whose tokens are accepted: our audience and projects; issuer and keys are Google's but for an emulated one."""

    audience: str
    projects: frozenset[str]
    issuer: str = PUBLIC_ISSUER
    keys_url: str = PUBLIC_KEYS_URL


@dataclass(frozen=True, slots=True)
class GcpInstance:
    """A verified instance; `email` is its service account's."""

    project: str
    instance_id: str
    name: str
    zone: str
    region: str
    email: str
    issued_at: int
    expires_at: int


class GcpVerifier:
    """Verifies instance identity tokens under one policy."""

    def __init__(self, policy: GcpPolicy, key_sets: KeySets) -> None:
        self._policy = policy
        self._key_sets = key_sets

    async def verify(self, token: str, nonce: str, now: float) -> GcpInstance:
        """The instance that `token`, made for this evidence nonce, proves at `now`.

        Raises:
            TokenError: it is refused.
            KeySetError: Google's keys cannot be had now; the token may be good.
        """
        parsed = parse_foreign(token)
        instance = self._read(parsed.claims, nonce, now)
        policy = self._policy
        key = await self._key_sets.find(policy.keys_url, parsed.key_id, {policy.issuer}) if parsed.key_id else None
        if key is None:
            raise unknown_key()
        check_rs256(parsed, key)
        return instance

    def _read(self, claims: Mapping[str, Any], nonce: str, now: float) -> GcpInstance:
        if claims.get("iss") != self._policy.issuer:
            raise TokenError(TokenErrorCode.WRONG_ISSUER, "the token's issuer is not allowed")
        if claims.get("aud") != bound_audience(self._policy.audience, nonce):
            raise TokenError(TokenErrorCode.WRONG_AUDIENCE, "the token is for another audience or another challenge")
        issued_at, expires_at = check_times(claims, now, max_age_seconds=MAX_AGE_SECONDS)
        compute = _object(_object(claims, "google"), "compute_engine")
        project = _text(compute, "project_id", _PROJECT)
        if project not in self._policy.projects:
            raise TokenError(TokenErrorCode.WRONG_ISSUER, "the token's project is not allowed")
        if claims.get("email_verified") is not True:
            raise bad_claim("email_verified")
        zone = _text(compute, "zone", _ZONE)
        return GcpInstance(
            project=project,
            instance_id=_text(compute, "instance_id", _INSTANCE),
            name=_text(compute, "instance_name", _NAME),
            zone=zone,
            region=zone.rpartition("-")[0],
            email=_text(claims, "email", _EMAIL),
            issued_at=issued_at,
            expires_at=expires_at,
        )


def bound_audience(audience: str, nonce: str) -> str:
    """The audience that the agent asks for: ours, and the evidence nonce behind a slash."""
    return f"{audience}/{nonce}"


def _object(claims: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = claims.get(name)
    if not isinstance(value, dict):
        raise bad_claim(name)
    return value


def _text(claims: Mapping[str, Any], name: str, form: re.Pattern[str]) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not form.fullmatch(value):
        raise bad_claim(name)
    return value
