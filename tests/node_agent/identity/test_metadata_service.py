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


async def test_it_is_asked_directly_whatever_proxy_there_is(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with metadata() as (url, asked):
        answer = await service(url).ask("/some/path", {"Metadata": "true"}, {"resource": "api://trunkline"})
    assert answer.member("access_token") == "the-token"
    assert asked == [("/vm-1/some/path", {"resource": "api://trunkline"}, "true")]
    with pytest.raises(MetadataUnavailable, match="has no signature"):
        answer.member("signature")


@pytest.mark.parametrize("statuses", [(404,), (429, 429), (500, 503), (410,)])
async def test_what_passes_is_waited_out(statuses):
    async with metadata(*statuses) as (url, asked):
        await service(url).ask("/a", {})
    assert len(asked) == len(statuses) + 1


@pytest.mark.parametrize("status", [302, 400, 401, 403])
async def test_a_no_is_a_no(status):
    async with metadata(status) as (url, asked):
        with pytest.raises(MetadataUnavailable, match="said no") as unavailable:
            await service(url).ask("/a", {})
    assert unavailable.value.permanent
    assert len(asked) == 1


async def test_a_service_that_stays_broken_is_given_up():
    async with metadata(*[500] * 10) as (url, asked):
        with pytest.raises(MetadataUnavailable) as unavailable:
            await service(url).ask("/a", {})
    assert not unavailable.value.permanent
    assert len(asked) == ATTEMPTS


async def test_nobody_there():
    with pytest.raises(MetadataUnavailable, match="does not answer"):
        await service("http://127.0.0.1:1").ask("/a", {})
