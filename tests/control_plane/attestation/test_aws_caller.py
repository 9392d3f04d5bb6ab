"""What STS says: believed only in the one form that an instance's role has."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from certs.caller_identity import RoleCredentials, sign_caller_identity
from control_plane.attestation.aws_caller import CallerIdentities
from control_plane.attestation.outbound import Outbound
from control_plane.attestation.refusals import AttestationRefused, Outcome

INSTANCE = "i-0123456789abcdef0"
ARN = f"arn:aws:sts::123456789012:assumed-role/node/{INSTANCE}"
USER = f"AROAAAAAAAAAAAAAAAAAA:{INSTANCE}"
NONCE = "0" * 32
SIGNED = sign_caller_identity(
    RoleCredentials("ASIAIOSFODNN7EXAMPLE", "secret", "token" * 8),
    region="eu-central-1",
    host="x",
    nonce=NONCE,
    now=1_800_000_000,
)


def result(**changes: Any) -> dict[str, Any]:
    inner = {"Account": "123456789012", "Arn": ARN, "UserId": USER, **changes}
    return {"GetCallerIdentityResponse": {"GetCallerIdentityResult": inner, "ResponseMetadata": {"RequestId": "r"}}}


class Sts:
    """An endpoint that answers what the test says."""

    def __init__(self) -> None:
        self.answer: web.StreamResponse = web.json_response(result())
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append((request.method, request.path_qs, headers, await request.read()))
        return self.answer


@pytest.fixture
async def sts() -> AsyncIterator[Sts]:
    endpoint = Sts()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", endpoint.handle)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield endpoint
    await runner.cleanup()


@pytest.fixture
async def callers(sts: Sts) -> AsyncIterator[CallerIdentities]:
    async with aiohttp.ClientSession() as session:
        yield CallerIdentities(Outbound(session, "AWS STS"), endpoint_url=sts.url)


async def test_the_request_is_ours_to_the_last_byte(sts: Sts, callers: CallerIdentities):
    role = await callers.ask(SIGNED, region="eu-central-1", nonce=NONCE)
    assert (role.account, role.session) == ("123456789012", INSTANCE)
    assert role.role_arn == "arn:aws:iam::123456789012:role/node"
    [(method, path, headers, body)] = sts.asked
    assert (method, path, body) == ("POST", "/", b"Action=GetCallerIdentity&Version=2011-06-15")
    assert (headers["x-trunkline-nonce"], headers["accept"]) == (NONCE, "application/json")
    assert headers["host"] == sts.url.partition("://")[2]


@pytest.mark.parametrize(
    "changes",
    [
        {"Arn": "arn:aws:iam::123456789012:user/alice"},
        {"Arn": "arn:aws:sts::123456789012:assumed-role/node/alice", "UserId": "AROAAAAAAAAAAAAAAAAAA:alice"},
        {"Arn": f"arn:aws:sts::123456789012:federated-user/{INSTANCE}"},
        {"Arn": ARN + "\n"},
        {"Arn": f"{ARN}/x"},
        {"Arn": None},
        {"Account": "210987654321"},
        {"UserId": "AROAAAAAAAAAAAAAAAAAA:i-fffffffffffffffff"},
        {"UserId": f"AIDAAAAAAAAAAAAAAAAAA:{INSTANCE}"},
    ],
)
async def test_who_is_no_instance(sts: Sts, callers: CallerIdentities, changes: dict[str, Any]):
    sts.answer = web.json_response(result(**changes))
    with pytest.raises(AttestationRefused) as refused:
        await callers.ask(SIGNED, region="eu-central-1", nonce=NONCE)
    assert refused.value.outcome is Outcome.BAD_EVIDENCE


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (lambda: web.json_response({}, status=403), Outcome.BAD_EVIDENCE),
        (lambda: web.json_response({}, status=400), Outcome.BAD_EVIDENCE),
        (lambda: web.json_response(result(), status=500), Outcome.UNVERIFIABLE),
        (lambda: web.json_response(result(), status=201), Outcome.UNVERIFIABLE),
        (lambda: web.Response(status=302, headers={"Location": "/elsewhere"}), Outcome.UNVERIFIABLE),
        (lambda: web.Response(text="<xml/>", content_type="text/xml"), Outcome.UNVERIFIABLE),
        (lambda: web.Response(text="{}", content_type="application/json"), Outcome.UNVERIFIABLE),
        (lambda: web.json_response([result()]), Outcome.UNVERIFIABLE),
        (lambda: web.json_response({"x": "y" * 10_000}), Outcome.UNVERIFIABLE),
        (
            lambda: web.Response(
                text='{"GetCallerIdentityResponse":{},"GetCallerIdentityResponse":{}}', content_type="application/json"
            ),
            Outcome.UNVERIFIABLE,
        ),
    ],
)
async def test_other_answers(sts: Sts, callers: CallerIdentities, answer: Any, outcome: Outcome):
    sts.answer = answer()
    with pytest.raises(AttestationRefused) as refused:
        await callers.ask(SIGNED, region="eu-central-1", nonce=NONCE)
    assert refused.value.outcome is outcome
    assert len(sts.asked) == 1
