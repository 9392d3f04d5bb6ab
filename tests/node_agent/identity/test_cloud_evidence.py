"""What the agent asks the emulated clouds for, and how it takes what they say instead."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from node_agent.identity.cloud_evidence import AwsEvidence, AzureEvidence, GcpEvidence
from node_agent.identity.evidence import EvidenceUnavailable
from node_agent.identity.metadata_service import MetadataService
from tests.support.emulated_clouds import running_clouds
from trunkline.runtime.clock import SystemClock

NONCE = "0123456789abcdef" * 2


def service(url: str) -> MetadataService:
    return MetadataService(url, random.Random(1), first_pause_seconds=0.001)


@pytest.fixture
async def metadata(tmp_path: Path) -> AsyncIterator[MetadataService]:
    async with running_clouds(tmp_path) as clouds:
        yield service(f"{clouds.metadata_url}/vm-1")


@asynccontextmanager
async def answering(answers: dict[str, web.Response]) -> AsyncIterator[MetadataService]:
    """A metadata service that says these, by the end of the path; the rest is not there."""

    async def answer(request: web.Request) -> web.StreamResponse:
        found = [text for end, text in answers.items() if request.path.endswith(end)]
        return found[0] if found else web.Response(status=400)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield service(f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


async def test_azure(metadata: MetadataService):
    evidence = await AzureEvidence(metadata, "api://trunkline", None).collect(NONCE)
    assert set(evidence) == {"type", "token", "document"}


async def test_aws(metadata: MetadataService):
    evidence = await AwsEvidence(metadata, SystemClock()).collect(NONCE)
    assert set(evidence["caller_identity"]) == {"date", "access_key_id", "session_token", "signature"}
    assert "secret" not in str(sorted(evidence["caller_identity"])).lower()


async def test_gcp(metadata: MetadataService):
    evidence = await GcpEvidence(metadata, "api://trunkline").collect(NONCE)
    assert evidence["token"].count(".") == 2


async def test_a_role_is_a_name_and_no_path():
    answers = {
        "/token": web.Response(text="session"),
        "/rsa2048": web.Response(text="AAAA"),
        "/region": web.Response(text="eu-central-1"),
        "/security-credentials/": web.Response(text="../../user-data"),
    }
    async with answering(answers) as metadata:
        with pytest.raises(EvidenceUnavailable, match="names no role"):
            await AwsEvidence(metadata, SystemClock()).collect(NONCE)


async def test_a_region_is_no_host():
    credentials = web.json_response({"AccessKeyId": "ASIA" + "A" * 16, "SecretAccessKey": "s", "Token": "t"})
    answers = {
        "/token": web.Response(text="session"),
        "/rsa2048": web.Response(text="AAAA"),
        "/region": web.Response(text="evil.example/x"),
        "/security-credentials/": web.Response(text="role"),
        "/role": credentials,
    }
    async with answering(answers) as metadata:
        with pytest.raises(EvidenceUnavailable, match="no region"):
            await AwsEvidence(metadata, SystemClock()).collect(NONCE)


@pytest.mark.parametrize("headers", [{}, {"Metadata-Flavor": "Other"}])
async def test_what_is_not_googles(headers: dict[str, Any]):
    async with answering({"/identity": web.Response(text="a.b.c", headers=headers)}) as metadata:
        with pytest.raises(EvidenceUnavailable, match="not Google's"):
            await GcpEvidence(metadata, "a").collect(NONCE)


async def test_a_machine_without_an_identity():
    async with answering({}) as metadata:
        for source in (
            AzureEvidence(metadata, "a", None),
            AwsEvidence(metadata, SystemClock()),
            GcpEvidence(metadata, "a"),
        ):
            with pytest.raises(EvidenceUnavailable) as unavailable:
                await source.collect(NONCE)
            assert unavailable.value.permanent
