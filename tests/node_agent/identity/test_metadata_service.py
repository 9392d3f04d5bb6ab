import random
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from node_agent.identity.metadata_service import ATTEMPTS, MetadataService, MetadataUnavailable


@asynccontextmanager
async def metadata(*statuses):
    """A metadata service that answers with these statuses, then with a token."""
    asked, waiting = [], list(statuses)

    async def answer(request):
        asked.append((request.path, dict(request.query), request.headers.get("Metadata")))
        if waiting:
            status = waiting.pop(0)
            headers = {"Location": "http://127.0.0.1:1/"} if status == 302 else {}
            return web.json_response({"error": "no", "error_description": "said no"}, status=status, headers=headers)
        return web.json_response({"access_token": "the-token", "expires_in": "3600"})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/vm-1", asked
    finally:
        await runner.cleanup()


def service(url):
    return MetadataService(url, random.Random(1), first_pause_seconds=0.001)


async def test_the_request_is_the_documented_one(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with metadata() as (url, asked):
        token = await service(url).identity_token("api://trunkline", "0" * 36)
    assert token.reveal() == "the-token"
    query = {"api-version": "2018-02-01", "resource": "api://trunkline", "client_id": "0" * 36}
    assert asked == [("/vm-1/metadata/identity/oauth2/token", query, "true")]


@pytest.mark.parametrize("statuses", [(404,), (429, 429), (500, 503), (410,)])
async def test_what_passes_is_waited_out(statuses):
    async with metadata(*statuses) as (url, asked):
        await service(url).identity_token("a", None)
    assert len(asked) == len(statuses) + 1


@pytest.mark.parametrize("status", [302, 400, 401, 403])
async def test_a_no_is_a_no(status):
    async with metadata(status) as (url, asked):
        with pytest.raises(MetadataUnavailable, match="said no") as unavailable:
            await service(url).identity_token("a", None)
    assert unavailable.value.permanent
    assert len(asked) == 1


async def test_a_service_that_stays_broken_is_given_up():
    async with metadata(*[500] * 10) as (url, asked):
        with pytest.raises(MetadataUnavailable) as unavailable:
            await service(url).identity_token("a", None)
    assert not unavailable.value.permanent
    assert len(asked) == ATTEMPTS


async def test_nobody_there():
    with pytest.raises(MetadataUnavailable, match="does not answer"):
        await service("http://127.0.0.1:1").identity_token("a", None)
