import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

from certs.azure import AzurePolicy, AzureVerifier
from certs.encoding import encode_base64url
from certs.errors import TokenError, TokenErrorCode
from certs.jwks import KeySetError, KeySets, read_key_set
from tests.support.rsa_keys import KEY, OTHER_KEY

NOW = 1_800_000_000.0
TENANT = "11111111-1111-4111-8111-111111111111"
OTHER_TENANT = "22222222-2222-4222-8222-222222222222"
IDENTITY = "33333333-3333-4333-8333-333333333333"
APPLICATION = "44444444-4444-4444-8444-444444444444"
SUBSCRIPTION = "/subscriptions/55555555-5555-4555-8555-555555555555"
MACHINE = f"{SUBSCRIPTION}/resourceGroups/Rg/providers/Microsoft.Compute/virtualMachines/vm-1"


POLICED = {
    "aud": "api://trunkline",
    "tid": TENANT,
    "oid": IDENTITY,
    "azp": APPLICATION,
    "iat": int(NOW),
    "nbf": int(NOW),
    "exp": int(NOW) + 3600,
    "xms_mirid": MACHINE,
    "ver": "2.0",
}
"""Claims that the policy of these tests allows, but for the issuer."""


def number(value: int) -> str:
    return encode_base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def jwk(key: rsa.RSAPrivateKey, key_id: str, **changes: Any) -> dict[str, Any]:
    public = key.public_key().public_numbers()
    return {"kty": "RSA", "use": "sig", "kid": key_id, "n": number(public.n), "e": number(public.e), **changes}


class Clock:
    seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


class Issuer:
    """An issuer's key server, which can be told to misbehave."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.keys: dict[str, list[dict[str, Any]]] = {TENANT: [jwk(KEY, "k1")], OTHER_TENANT: [jwk(OTHER_KEY, "k1")]}
        self.answer: web.StreamResponse | None = None
        self.asked = asyncio.Event()
        self.delay = asyncio.Event()
        self.delay.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path)
        self.asked.set()
        await self.delay.wait()
        return self.answer or web.json_response({"keys": self.keys[request.match_info["tenant"]]})


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def url(issuer: Issuer) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_get("/{tenant}/discovery/v2.0/keys", issuer.handle)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def key_sets(clock: Clock) -> AsyncIterator[KeySets]:
    async with aiohttp.ClientSession() as session:
        yield KeySets(session, clock, allow_http=True)


@pytest.fixture
def verifier(url: str, key_sets: KeySets) -> AzureVerifier:
    policy = AzurePolicy("api://trunkline", frozenset({TENANT, OTHER_TENANT}), frozenset({IDENTITY}), url)
    return AzureVerifier(policy, key_sets)


def token(url: str, key: rsa.RSAPrivateKey = KEY, *, headers: dict[str, Any] | None = None, **changes: Any) -> str:
    claims = {**POLICED, "iss": f"{url}/{TENANT}/v2.0", **changes}
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.PyJWS().encode(
        json.dumps(kept).encode(), key, "RS256", headers={"kid": "k1", "typ": "JWT", **(headers or {})}
    )


async def refusal(verifier: AzureVerifier, text: str, now: float = NOW) -> TokenErrorCode:
    with pytest.raises(TokenError) as refused:
        await verifier.verify(text, now)
    return refused.value.code


async def test_a_managed_identity(verifier: AzureVerifier, url: str) -> None:
    identity = await verifier.verify(token(url), NOW)
    assert (identity.tenant_id, identity.object_id, identity.application_id) == (TENANT, IDENTITY, APPLICATION)
    assert identity.identity_resource_id == MACHINE.lower()
    assert identity.resource_id is None


async def test_version_one_tokens(verifier: AzureVerifier, url: str) -> None:
    old = token(url, iss=f"{url}/{TENANT}/", azp=None, appid=APPLICATION, xms_az_rid=MACHINE)
    identity = await verifier.verify(old, NOW)
    assert identity.application_id == APPLICATION
    assert identity.resource_id == MACHINE.lower()


def test_microsoft_s_own_issuers() -> None:
    policy = AzurePolicy("a", frozenset({TENANT}), frozenset({"*"}))
    assert policy.tenant_of(f"https://login.microsoftonline.com/{TENANT}/v2.0") == TENANT
    assert policy.tenant_of(f"https://sts.windows.net/{TENANT}/") == TENANT
    for foreign in (f"https://sts.windows.net/{TENANT}", f"https://evil/{TENANT}/", None, [TENANT], OTHER_TENANT):
        assert policy.tenant_of(foreign) is None
    assert policy.keys_url(TENANT) == f"https://login.microsoftonline.com/{TENANT}/discovery/v2.0/keys"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"iss": "https://evil.example/"}, TokenErrorCode.WRONG_ISSUER),
        ({"iss": None}, TokenErrorCode.WRONG_ISSUER),
        ({"iss": ["x"]}, TokenErrorCode.WRONG_ISSUER),
        ({"tid": "99999999-9999-4999-8999-999999999999"}, TokenErrorCode.WRONG_ISSUER),
        ({"tid": OTHER_TENANT}, TokenErrorCode.WRONG_ISSUER),
        ({"tid": None}, TokenErrorCode.WRONG_ISSUER),
        ({"aud": "https://management.azure.com/"}, TokenErrorCode.WRONG_AUDIENCE),
        ({"aud": ["api://trunkline"]}, TokenErrorCode.WRONG_AUDIENCE),
        ({"oid": OTHER_TENANT}, TokenErrorCode.BAD_CLAIMS),
        ({"oid": None}, TokenErrorCode.BAD_CLAIMS),
        ({"oid": "*"}, TokenErrorCode.BAD_CLAIMS),
        ({"azp": None}, TokenErrorCode.BAD_CLAIMS),
        ({"exp": int(NOW) - 61}, TokenErrorCode.EXPIRED),
        ({"exp": "1800003600"}, TokenErrorCode.BAD_CLAIMS),
        ({"iat": int(NOW) + 61, "nbf": None}, TokenErrorCode.NOT_YET_VALID),
        ({"nbf": int(NOW) + 61}, TokenErrorCode.NOT_YET_VALID),
        ({"iat": int(NOW) - 86461, "nbf": int(NOW) - 86461}, TokenErrorCode.LIFETIME),
        ({"xms_mirid": "/a/../b"}, TokenErrorCode.BAD_CLAIMS),
        ({"xms_mirid": "/a//b"}, TokenErrorCode.BAD_CLAIMS),
        ({"xms_mirid": "/a/%2e%2e/b"}, TokenErrorCode.BAD_CLAIMS),
        ({"xms_az_rid": 5}, TokenErrorCode.BAD_CLAIMS),
    ],
)
async def test_what_is_not_allowed_costs_no_request(
    verifier: AzureVerifier, url: str, issuer: Issuer, changes: dict[str, Any], code: TokenErrorCode
) -> None:
    assert await refusal(verifier, token(url, **changes)) is code
    assert issuer.requests == []


async def test_forms_that_are_refused(verifier: AzureVerifier, url: str, issuer: Issuer) -> None:
    unsigned = jwt.encode({"iss": f"{url}/{TENANT}/v2.0"}, "", algorithm="none")
    shared = jwt.encode({"iss": f"{url}/{TENANT}/v2.0"}, "x" * 64, algorithm="HS512", headers={"kid": "k1"})
    for bad in ("", "a.b.c", unsigned, shared, token(url) + "=", "A" * 20_000):
        assert await refusal(verifier, bad) in {
            TokenErrorCode.MALFORMED,
            TokenErrorCode.ALGORITHM,
            TokenErrorCode.TOO_LARGE,
        }
    jku = token(url, headers={"jku": "https://evil.example/keys"})
    assert await refusal(verifier, jku) is TokenErrorCode.MALFORMED
    assert issuer.requests == []


async def test_signatures(verifier: AzureVerifier, url: str) -> None:
    assert await refusal(verifier, token(url, OTHER_KEY)) is TokenErrorCode.BAD_SIGNATURE
    assert await refusal(verifier, token(url, headers={"kid": "k2"})) is TokenErrorCode.UNKNOWN_KEY
    nameless = jwt.encode({**POLICED, "iss": f"{url}/{TENANT}/v2.0"}, KEY, algorithm="RS256")
    assert await refusal(verifier, nameless) is TokenErrorCode.UNKNOWN_KEY
    good = token(url)
    assert await refusal(verifier, good[:-4] + ("AAAA" if not good.endswith("AAAA") else "BBBB")) in {
        TokenErrorCode.BAD_SIGNATURE,
        TokenErrorCode.MALFORMED,
    }


async def test_one_tenant_s_key_does_not_sign_for_another(verifier: AzureVerifier, url: str) -> None:
    """Both tenants have a key called k1."""
    assert await refusal(verifier, token(url, OTHER_KEY)) is TokenErrorCode.BAD_SIGNATURE
    other: dict[str, Any] = {"iss": f"{url}/{OTHER_TENANT}/v2.0", "tid": OTHER_TENANT}
    assert await refusal(verifier, token(url, KEY, **other)) is TokenErrorCode.BAD_SIGNATURE
    assert (await verifier.verify(token(url, OTHER_KEY, **other), NOW)).tenant_id == OTHER_TENANT


async def test_a_key_that_its_set_reserves_for_another_issuer(
    verifier: AzureVerifier, url: str, issuer: Issuer
) -> None:
    issuer.keys[TENANT] = [jwk(KEY, "k1", issuer=f"{url}/{OTHER_TENANT}/v2.0"), jwk(OTHER_KEY, "k2", issuer=f"{url}/")]
    assert await refusal(verifier, token(url)) is TokenErrorCode.UNKNOWN_KEY
    issuer.keys[OTHER_TENANT] = [jwk(OTHER_KEY, "k1", issuer=f"{url}/{{tenantid}}/v2.0")]
    other: dict[str, Any] = {"iss": f"{url}/{OTHER_TENANT}/v2.0", "tid": OTHER_TENANT}
    assert (await verifier.verify(token(url, OTHER_KEY, **other), NOW)).tenant_id == OTHER_TENANT


async def test_keys_are_fetched_once(verifier: AzureVerifier, url: str, issuer: Issuer) -> None:
    issuer.delay.clear()
    attempts = [asyncio.create_task(verifier.verify(token(url, n=n), NOW)) for n in range(50)]
    await issuer.asked.wait()
    issuer.delay.set()
    assert len(await asyncio.gather(*attempts)) == 50
    await verifier.verify(token(url), NOW)
    assert len(issuer.requests) == 1


async def test_invented_key_ids_do_not_make_us_fetch(
    verifier: AzureVerifier, url: str, issuer: Issuer, clock: Clock
) -> None:
    for n in range(20):
        assert await refusal(verifier, token(url, headers={"kid": f"invented-{n}"})) is TokenErrorCode.UNKNOWN_KEY
    assert len(issuer.requests) == 1
    clock.seconds += 60
    issuer.keys[TENANT] = [jwk(OTHER_KEY, "k2")]
    await verifier.verify(token(url, OTHER_KEY, headers={"kid": "k2"}), NOW)
    assert len(issuer.requests) == 2


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(status=500),
        lambda: web.Response(status=302, headers={"Location": "/elsewhere"}),
        lambda: web.Response(text="garbage"),
        lambda: web.json_response([]),
        lambda: web.json_response({"keys": "x"}),
        lambda: web.json_response({"keys": [{}] * 101}),
        lambda: web.Response(body=b" " * 300_000),
        lambda: web.json_response({"keys": [jwk(KEY, "k1"), jwk(OTHER_KEY, "k1")]}),
        lambda: web.json_response({"keys": [jwk(KEY, "k1", n="AAAA")]}),
    ],
)
async def test_an_issuer_that_misbehaves(
    verifier: AzureVerifier, url: str, issuer: Issuer, clock: Clock, answer: Any
) -> None:
    issuer.answer = answer()
    with pytest.raises(KeySetError):
        await verifier.verify(token(url), NOW)
    with pytest.raises(KeySetError, match="in a minute"):
        await verifier.verify(token(url), NOW)
    assert len(issuer.requests) == 1
    issuer.answer = None
    clock.seconds += 60
    await verifier.verify(token(url), NOW)


async def test_good_keys_are_kept_for_a_day(verifier: AzureVerifier, url: str, issuer: Issuer, clock: Clock) -> None:
    await verifier.verify(token(url), NOW)
    for hours in (2, 12, 23):
        issuer.answer = web.Response(status=503)
        clock.seconds = 1000 + hours * 3600
        await verifier.verify(token(url), NOW)
    issuer.answer = web.Response(status=503)
    clock.seconds = 1000 + 24 * 3600
    with pytest.raises(KeySetError):
        await verifier.verify(token(url), NOW)


async def test_https_only(clock: Clock, issuer: Issuer, url: str) -> None:
    async with aiohttp.ClientSession() as session:
        for bad in (f"{url}/{TENANT}/discovery/v2.0/keys", "file:///etc/passwd", "ftp://x/", ""):
            with pytest.raises(KeySetError, match="HTTPS"):
                await KeySets(session, clock).find(bad, "k1")
    assert issuer.requests == []


def test_keys_of_other_kinds_are_passed_over() -> None:
    entries = [jwk(KEY, "good"), jwk(KEY, "enc", use="enc"), jwk(KEY, "ps", alg="PS256"), {"kty": "EC", "kid": "ec"}, 5]
    assert list(read_key_set(json.dumps({"keys": entries}).encode())) == ["good"]
