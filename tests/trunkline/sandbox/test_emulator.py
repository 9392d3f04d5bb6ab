"""The emulated identity service as a process, and what holds for every process of a sandbox."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import jwt
import pytest

from certs.tls import client_context
from trunkline.sandbox.child import EMULATOR
from trunkline.sandbox.daemon import Endpoints, SandboxFailed, SandboxProcess, child_environment
from trunkline.sandbox.emulated_machines import TENANT, object_id
from trunkline.sandbox.settings_files import AUDIENCE

PATH = "metadata/identity/oauth2/token"
QUERY = {"api-version": "2018-02-01", "resource": AUDIENCE}


def emulator_in(directory: Path) -> SandboxProcess:
    return SandboxProcess(
        "identity-emulator",
        [EMULATOR, str(directory), "vm-1", "vm-2"],
        state_directory=directory,
        log_file=directory / "log",
    )


@pytest.fixture
async def emulator(tmp_path: Path) -> AsyncIterator[tuple[SandboxProcess, Endpoints]]:
    process = emulator_in(tmp_path)
    await process.start()
    try:
        yield process, await process.ready()
    finally:
        await process.stop()


async def test_a_machines_token_verifies_with_the_issuers_key(
    emulator: tuple[SandboxProcess, Endpoints], tmp_path: Path
) -> None:
    _, endpoints = emulator
    metadata, authority = endpoints.further["metadata_url"], endpoints.url
    tls = client_context(ca_file=tmp_path / "ca.pem")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
        async with session.get(f"{metadata}/vm-1/{PATH}", params=QUERY, headers={"Metadata": "true"}) as answer:
            token = (await answer.json())["access_token"]
        async with session.get(f"{authority}/{TENANT}/v2.0/.well-known/openid-configuration") as answer:
            configuration = await answer.json()
        async with session.get(configuration["jwks_uri"]) as answer:
            key = jwt.PyJWK((await answer.json())["keys"][0])
    claims = jwt.decode(token, key.key, algorithms=["RS256"], audience=AUDIENCE, issuer=configuration["issuer"])
    assert (claims["tid"], claims["oid"]) == (TENANT, object_id("vm-1"))
    assert claims["xms_mirid"].endswith("/virtualMachines/vm-1")
    assert object_id("vm-1") != object_id("vm-2")


REFUSED: list[tuple[str, dict[str, str], dict[str, str], int]] = [
    ("vm-1", {}, QUERY, 400),
    ("vm-1", {"Metadata": "true", "X-Forwarded-For": "10.0.0.1"}, QUERY, 400),
    ("vm-3", {"Metadata": "true"}, QUERY, 404),
    ("vm-1", {"Metadata": "true"}, {"resource": AUDIENCE}, 400),
]


async def test_refusals_of_the_metadata_service(emulator: tuple[SandboxProcess, Endpoints]) -> None:
    async with aiohttp.ClientSession() as session:
        for machine, headers, query, status in REFUSED:
            url = f"{emulator[1].further['metadata_url']}/{machine}/{PATH}"
            async with session.get(url, params=query, headers=headers) as answer:
                assert answer.status == status, (machine, headers, query)


async def test_ports_keys_and_roots_stay_when_it_is_started_again(
    emulator: tuple[SandboxProcess, Endpoints], tmp_path: Path
) -> None:
    process, before = emulator
    roots = (tmp_path / "ca.pem").read_bytes()
    key = (tmp_path / "issuer-key.pem").read_bytes()
    os.kill(process.pid, signal.SIGKILL)
    await process.ended()
    await process.start()
    after = await process.ready()
    assert (after.url, dict(after.further)) == (before.url, dict(before.further))
    assert ((tmp_path / "ca.pem").read_bytes(), (tmp_path / "issuer-key.pem").read_bytes()) == (roots, key)
    assert (tmp_path / "issuer-key.pem").stat().st_mode & 0o777 == 0o600


def ends_within(pid: int, timeout_seconds: float) -> bool:
    """Whether a process that need not be ours ends in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout_seconds)[0])
    finally:
        os.close(descriptor)


async def test_a_process_ends_with_the_one_that_made_it(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path\n"
        "from tests.trunkline.sandbox.test_emulator import emulator_in\n"
        "async def main():\n"
        "    process = emulator_in(Path(sys.argv[1])); await process.start(); await process.ready()\n"
        "    print(process.pid, flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert supervisor.stdout is not None
    pid = int(await supervisor.stdout.readline())
    supervisor.kill()
    await supervisor.wait()
    assert await asyncio.to_thread(ends_within, pid, 30)


async def test_a_process_that_cannot_start_says_why_in_the_end_of_its_log(tmp_path: Path) -> None:
    process = SandboxProcess("relay", ["no-such-daemon"], state_directory=tmp_path, log_file=tmp_path / "log")
    await process.start()
    with pytest.raises(
        SandboxFailed, match=r"relay ended with status 69.*\n  the no-such-daemon daemon is not installed"
    ):
        await process.ready()


async def test_stale_endpoints_are_not_taken_for_readiness(tmp_path: Path) -> None:
    (tmp_path / "endpoints.json").write_text(json.dumps({"pid": 1, "url": "https://localhost:1"}))
    process = SandboxProcess("relay", ["no-such-daemon"], state_directory=tmp_path, log_file=tmp_path / "log")
    await process.start()
    with pytest.raises(SandboxFailed):
        await process.ready()


def test_children_get_no_settings_that_were_meant_for_others() -> None:
    environment = child_environment({"PATH": "/bin", "TRUNKLINE_RELAY__LISTEN__PORT": "1", "HTTPS_PROXY": "http://p"})
    assert not [name for name in environment if name.startswith("TRUNKLINE_")]
    assert environment["PATH"] == "/bin"
    assert "localhost" in environment["NO_PROXY"]
