"""The emulated metadata service: each cloud's own rules, and lies that are told on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.emulated_clouds import running_clouds

AWS_ROLE_PATH = "latest/meta-data/iam/security-credentials/"
GCP_PATH = "computeMetadata/v1/instance/service-accounts/default/identity"
DOCUMENT = "metadata/attested/document?api-version=2020-09-01&nonce="


@pytest.fixture
async def base(tmp_path: Path) -> AsyncIterator[str]:
    async with running_clouds(tmp_path) as clouds:
        yield clouds.metadata_url


async def ask(url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as session, session.request(method, url, data=body, headers=named) as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (DOCUMENT + "0" * 32, {"Metadata": "true"}, 200),
        (DOCUMENT + "0" * 32, {}, 400),
        (DOCUMENT + "0" * 33, {"Metadata": "true"}, 400),
        (DOCUMENT + "a-b", {"Metadata": "true"}, 400),
        ("latest/dynamic/instance-identity/rsa2048", {}, 401),
        (AWS_ROLE_PATH, {"X_aws_ec2_metadata_token": "guessed"}, 401),
        (f"{GCP_PATH}?audience=a&format=full", {"Metadata_Flavor": "Google"}, 200),
        (f"{GCP_PATH}?audience=a&format=full", {}, 403),
        (f"{GCP_PATH}?audience=a", {"Metadata_Flavor": "Google"}, 400),
        (f"{GCP_PATH}?audience=a&format=full", {"Metadata_Flavor": "Google", "X_Forwarded_For": "1"}, 403),
    ],
)
async def test_each_cloud_has_its_rules(base: str, path: str, headers: dict[str, str], status: int) -> None:
    assert (await ask(f"{base}/vm-1/{path}", "GET", None, **headers))[0] == status


async def test_aws_wants_a_session(base: str) -> None:
    url = f"{base}/vm-1/latest/api/token"
    assert (await ask(url, "PUT"))[0] == 400
    assert (await ask(url, "PUT", X_aws_ec2_metadata_token_ttl_seconds="60", X_Forwarded_For="1"))[0] == 403
    _, session = await ask(url, "PUT", X_aws_ec2_metadata_token_ttl_seconds="60")
    status, role = await ask(f"{base}/vm-1/{AWS_ROLE_PATH}", X_aws_ec2_metadata_token=session)
    assert (status, role) == (200, "sandbox-node")


@pytest.mark.parametrize("lies", [b"x", b'{"unknown": 1}', b'{"document_of": "vm-9"}', b"[]"])
async def test_lies_that_are_none(base: str, lies: bytes) -> None:
    assert (await ask(f"{base}/vm-1/lies", "PUT", lies))[0] == 400


async def test_lies_of_a_machine_that_is_not_there(base: str) -> None:
    assert (await ask(f"{base}/vm-9/lies", "PUT", b"{}"))[0] == 404
