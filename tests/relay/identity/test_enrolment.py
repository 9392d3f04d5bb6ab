import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from certs.identities import Identity, relay_id
from relay.control_plane.client import ControlPlaneClient
from relay.identity.enrolment import ENROL_PATH, Enrolled, enrol, finish_enrolment
from relay.identity.own_identity import load_identity
from relay.settings import EnrolmentSettings
from tests.support.identities import IdentityKit, none_ended
from tests.support.scripted_control_plane import ScriptedControlPlane
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import SystemClock
from trunkline.runtime.daemon import StartError
from trunkline.runtime.logs import get_logger


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("identities"))


@pytest.fixture
async def control_plane(kit: IdentityKit):
    fake = ScriptedControlPlane()
    async with fake.serve(kit.server_tls().context):
        yield fake


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "join-token"
    path.write_text("a-join-token\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir()
    return path


def issue(kit: IdentityKit, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    spiffe_id = relay_id(kit.trust_domain, "rl-one")
    chain = kit.authority.issue_relay(document["csr"], spiffe_id, ("localhost",), 86400, now=kit.now)
    return 200, {"relay_id": "rl-one", "certificate_chain": chain.pem, "trust_document": "jws", "dns_names": []}


async def run(kit: IdentityKit, fake: ScriptedControlPlane, token_file: Path | None, state: Path) -> Enrolled:
    client = ControlPlaneClient(fake.url, kit.client_tls(), verdict=none_ended)
    try:
        return await enrol(
            EnrolmentSettings(join_token_file=token_file, name="relay-1"),
            client=client,
            state_directory=state,
            clock=SystemClock(),
            backoff=Backoff(random.Random(1), cap_seconds=0.001),
            log=get_logger("test.enrolment"),
        )
    finally:
        await client.close()


async def test_a_join_token_becomes_an_identity(kit, control_plane, token_file, state):
    control_plane.answer("POST", ENROL_PATH, lambda document: issue(kit, document))
    enrolled = await run(kit, control_plane, token_file, state)
    assert str(enrolled.identity.spiffe_id) == "spiffe://trunkline.test/relay/rl-one"
    assert enrolled.trust_document == "jws"
    asked = control_plane.asked[0][2]
    assert (asked["join_token"], asked["name"]) == ("a-join-token", "relay-1")
    assert load_identity(state) is None
    finish_enrolment(enrolled, state)
    stored = load_identity(state)
    assert isinstance(stored, Identity)
    assert stored.serial == enrolled.identity.serial
    assert [path.name for path in state.iterdir()] == ["identity.pem"]


async def test_a_retry_after_a_crash_asks_for_the_same_thing(kit, control_plane, token_file, state):
    control_plane.answer("POST", ENROL_PATH, lambda document: issue(kit, document))
    await run(kit, control_plane, token_file, state)
    await run(kit, control_plane, token_file, state)
    first, second = control_plane.asked
    assert first == second


async def test_it_waits_for_the_control_plane(kit, control_plane, token_file, state, monkeypatch):
    answers = iter([(503, {}), (500, {})])

    async def no_wait(_: float) -> None: ...

    monkeypatch.setattr("relay.identity.enrolment.asyncio.sleep", no_wait)
    control_plane.answer("POST", ENROL_PATH, lambda document: next(answers, None) or issue(kit, document))
    await run(kit, control_plane, token_file, state)
    assert len(control_plane.asked) == 3


@pytest.mark.parametrize(("status", "exit_code"), [(400, 78), (401, 78), (403, 78), (409, 78), (404, 69)])
async def test_a_refusal_ends_it(kit, control_plane, token_file, state, status, exit_code):
    control_plane.answer("POST", ENROL_PATH, lambda _: (status, {"error_code": "X", "message": "already used"}))
    with pytest.raises(StartError, match="already used") as caught:
        await run(kit, control_plane, token_file, state)
    assert caught.value.exit_code == exit_code


@pytest.mark.parametrize("chain", ["", "garbage", None])
async def test_an_answer_without_a_certificate_ends_it(kit, control_plane, token_file, state, chain):
    control_plane.answer("POST", ENROL_PATH, lambda _: (200, {"certificate_chain": chain, "trust_document": "x"}))
    with pytest.raises(StartError, match="unusable"):
        await run(kit, control_plane, token_file, state)


async def test_a_certificate_for_another_key_ends_it(kit, control_plane, token_file, state):
    other = kit.issue_relay().chain.pem
    control_plane.answer("POST", ENROL_PATH, lambda _: (200, {"certificate_chain": other}))
    with pytest.raises(StartError, match="does not belong"):
        await run(kit, control_plane, token_file, state)


async def test_the_token_file_must_be_there_and_private(kit, control_plane, token_file, state, tmp_path):
    with pytest.raises(StartError, match="trunkline token relay"):
        await run(kit, control_plane, None, state)
    with pytest.raises(StartError, match="cannot read"):
        await run(kit, control_plane, tmp_path / "nothing", state)
    token_file.chmod(0o644)
    with pytest.raises(StartError, match="chmod 600"):
        await run(kit, control_plane, token_file, state)
    token_file.chmod(0o600)
    token_file.write_text("\n")
    with pytest.raises(StartError, match="holds no join token"):
        await run(kit, control_plane, token_file, state)
    assert control_plane.asked == []


async def test_the_token_is_in_no_log(kit, control_plane, token_file, state, capsys, caplog):
    control_plane.answer("POST", ENROL_PATH, lambda document: issue(kit, document))
    await run(kit, control_plane, token_file, state)
    await asyncio.sleep(0)
    shown = capsys.readouterr()
    assert "a-join-token" not in shown.out + shown.err + caplog.text
