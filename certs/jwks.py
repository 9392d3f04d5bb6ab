"""Key sets of other issuers (JWKS, RFC 7517), fetched so that nobody can make this process fetch much.

Which URLs are fetched is the caller's decision, made before anything is asked here. HTTPS only, no redirects; the
answer's size and time are bounded; one request at a time per URL; not more often than every `MIN_INTERVAL_SECONDS`,
whatever key ids strangers invent; the last good set stays in use for a day while the issuer does not answer.

Sets are filed by URL, and a key whose set says that it is another issuer's (the `issuer` member of Microsoft's sets) is
that issuer's only: the same key id of two issuers never mixes.
"""

import asyncio
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
from cryptography.hazmat.primitives.asymmetric import rsa

from certs.encoding import decode_base64url, strict_json_object
from certs.errors import CertificateError

MAX_SET_BYTES = 256 * 1024
MAX_KEYS = 100
MAX_SETS = 256
FETCH_SECONDS = 10.0
MIN_INTERVAL_SECONDS = 60.0
FRESH_SECONDS = 3600.0
KEEP_SECONDS = 86400.0
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192

_DEPTH = 6
_KEY_KIND = "RSA"


class KeySetError(CertificateError):
    """A key set cannot be had: the issuer does not answer, or answers with something else."""


class MonotonicClock(Protocol):
    """What the cache measures its intervals with."""

    def monotonic(self) -> float:
        """Seconds that never go backwards."""


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """One key of a set, with the issuer that the set reserves it for, if it does."""

    public: rsa.RSAPublicKey
    issuer: str | None = None


@dataclass(slots=True)
class _KeySet:
    keys: Mapping[str, IssuerKey] = field(default_factory=dict)
    fetched_at: float | None = None
    tried_at: float | None = None
    flight: asyncio.Lock = field(default_factory=asyncio.Lock)


class KeySets:
    """RSA keys of issuers by key id, cached.

    `allow_http` lifts the demand for HTTPS: for an emulated issuer on the same machine only.
    """

    def __init__(self, session: aiohttp.ClientSession, clock: MonotonicClock, *, allow_http: bool = False) -> None:
        self._session = session
        self._clock = clock
        self._allow_http = allow_http
        self._sets: dict[str, _KeySet] = {}

    async def find(self, url: str, key_id: str, issuers: Collection[str] = ()) -> rsa.RSAPublicKey | None:
        """The key with this id in the set at `url`; None if the issuer does not have it.

        `issuers` are the names of the issuer whose key it must be, where the set says whose its keys are.

        Raises:
            KeySetError: the set cannot be had, and no good one is remembered.
        """
        known = self._known(url)
        if key_id in known.keys and self._age(known.fetched_at) < FRESH_SECONDS:
            return _of(known.keys[key_id], issuers)
        async with known.flight:
            await self._renew(known, url, key_id)
        return _of(known.keys.get(key_id), issuers)

    def _known(self, url: str) -> _KeySet:
        if not url.startswith("https://") and not (self._allow_http and url.startswith("http://")):
            msg = "key sets are fetched over HTTPS only"
            raise KeySetError(msg)
        if url not in self._sets and len(self._sets) >= MAX_SETS:
            msg = f"more than {MAX_SETS} issuers"
            raise KeySetError(msg)
        return self._sets.setdefault(url, _KeySet())

    async def _renew(self, known: _KeySet, url: str, key_id: str) -> None:
        """Fetch, unless somebody else just did while this one waited."""
        if key_id in known.keys and self._age(known.fetched_at) < FRESH_SECONDS:
            return
        if self._age(known.tried_at) >= MIN_INTERVAL_SECONDS:
            await self._refresh(known, url)
        elif known.fetched_at is None:
            msg = "the issuer's keys cannot be fetched: try again in a minute"
            raise KeySetError(msg)

    def _age(self, moment: float | None) -> float:
        return math.inf if moment is None else self._clock.monotonic() - moment

    async def _refresh(self, known: _KeySet, url: str) -> None:
        known.tried_at = self._clock.monotonic()
        try:
            known.keys = read_key_set(await self._fetch(url))
            known.fetched_at = known.tried_at
        except KeySetError:
            if known.fetched_at is None or known.tried_at - known.fetched_at >= KEEP_SECONDS:
                known.keys, known.fetched_at = {}, None
                raise

    async def _fetch(self, url: str) -> bytes:
        timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS)
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        try:
            async with self._session.get(url, allow_redirects=False, timeout=timeout, headers=headers) as response:
                if response.status != 200:
                    msg = f"the issuer's key set is not there: status {response.status}"
                    raise KeySetError(msg)
                body = await _bounded(response.content)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            msg = f"the issuer's keys cannot be fetched: {type(error).__name__}"
            raise KeySetError(msg) from error
        return body


def _of(key: IssuerKey | None, issuers: Collection[str]) -> rsa.RSAPublicKey | None:
    if key is None or (key.issuer is not None and issuers and key.issuer not in issuers):
        return None
    return key.public


def read_key_set(body: bytes) -> Mapping[str, IssuerKey]:
    """The RSA signature keys in a JWKS by key id; keys of other kinds or uses are passed over.

    Raises:
        KeySetError: not a key set, more than `MAX_KEYS` keys, or one id for two keys.
    """
    try:
        entries = strict_json_object(body, max_depth=_DEPTH).get("keys")
    except ValueError as error:
        msg = "the issuer's key set is not strict JSON"
        raise KeySetError(msg) from error
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        msg = f"the issuer's key set has no list of at most {MAX_KEYS} keys"
        raise KeySetError(msg)
    usable = [entry for entry in entries if _is_signature_key(entry)]
    keys = {entry["kid"]: IssuerKey(_rsa_key(entry), _issuer(entry)) for entry in usable}
    if len(keys) != len(usable):
        msg = "the issuer's key set has one id for two keys"
        raise KeySetError(msg)
    return keys


def _is_signature_key(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and entry.get("kty") == _KEY_KIND
        and entry.get("use", "sig") == "sig"
        and entry.get("alg", "RS256") == "RS256"
        and isinstance(entry.get("kid"), str)
    )


def _issuer(entry: Mapping[str, Any]) -> str | None:
    """The issuer that a key is reserved for; one with a placeholder (`{tenantid}`) is every tenant's."""
    issuer = entry.get("issuer")
    return issuer if isinstance(issuer, str) and "{" not in issuer else None


def _rsa_key(entry: Mapping[str, Any]) -> rsa.RSAPublicKey:
    try:
        modulus, exponent = (int.from_bytes(decode_base64url(str(entry.get(name))), "big") for name in ("n", "e"))
        if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
            raise ValueError
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as error:
        msg = f"the issuer's key set has a malformed key, or one not of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits"
        raise KeySetError(msg) from error


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > MAX_SET_BYTES:
            msg = f"the issuer's key set is longer than {MAX_SET_BYTES} bytes"
            raise KeySetError(msg)
    return bytes(body)
