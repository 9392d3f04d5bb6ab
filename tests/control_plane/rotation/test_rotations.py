"""Rotations through the API: every step behind its gate, taken once, by one; whoever slept through comes back."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509

from certs.chains import verify_chain
from certs.errors import CertificateError
from certs.identities import build_csr
from certs.jose import parse_compact
from certs.keyfiles import generate_key
from certs.tls import client_context
from certs.tokens import TokenKind
from certs.trust import TrustStore, verify_trust_document
from control_plane.rotation.rotations import Rotations
from control_plane.rotation.steps import Asked
from control_plane.signing.phases import SignerKind, Step
from control_plane.storage import signers
from control_plane.storage.audit import Actor
from tests.control_plane.test_housekeeping import DAY, OffsetClock
from tests.support.control_planes import RunningControlPlane, running_control_plane, settings_for
from tests.support.rotations import Rotator
from tests.support.still_disk import a_disk_that_stands_still
from trunkline.runtime.clock import ManualClock

KINDS = [kind.value for kind in SignerKind]


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[RunningControlPlane]:
    settings = settings_for(tmp_path, commands={"call_timeout_seconds": 0.5})
    async with running_control_plane(tmp_path, settings=settings) as running:
        yield running


@pytest.fixture(autouse=True)
def no_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.rotation.progress.IN_FLIGHT_MARGIN_SECONDS", -0.5)


async def test_it_begins_steady_with_one_signer(plane: RunningControlPlane):
    for kind in KINDS:
        seen = await Rotator(plane, kind).look()
        assert (seen["phase"], seen["version"], "step" in seen) == ("steady", 1, False)
        [signer] = seen["signers"]
        assert (signer["seat"], signer["active"], signer["retiring"]) == ("incumbent", True, False)
        assert [one["step"] for one in seen["next_steps"]] == ["prepare"]


@pytest.mark.parametrize("kind", KINDS)
async def test_no_step_has_the_loop_wait_for_the_disk(plane: RunningControlPlane, kind: str):
    with a_disk_that_stands_still() as disk:
        disk.move()
        await Rotator(plane, kind).take("prepare")


@pytest.mark.parametrize("kind", KINDS)
async def test_all_the_way_with_a_node_and_a_relay(plane: RunningControlPlane, kind: str):
    rotator = Rotator(plane, kind)
    node, relay = await plane.node(), await plane.relay()
    old = await rotator.active()
    prepared = await rotator.take("prepare")
    assert await rotator.active() == old
    shut = await rotator.step("activate")
    assert (shut.status, shut.error_code) == (409, "RESOURCE_CONFLICT")
    assert {detail["field"] for detail in shut.document["details"]} == {"vm-1", "relay-1"}
    await rotator.report(node, sequence=prepared["gate_sequence"] - 1)
    await rotator.report(relay)
    [laggard] = (await rotator.step("activate")).document["details"]
    assert laggard["problem"] == (
        f"has trust document {prepared['gate_sequence'] - 1}, needs {prepared['gate_sequence']}"
    )
    await rotator.report(node)
    activated = await rotator.take("activate")
    assert await rotator.active() != old
    assert [signer["retiring"] for signer in activated["signers"]] == [True, False]
    for machine in (node, relay):
        await rotator.report(machine)
    still = {detail["field"]: detail["problem"] for detail in (await rotator.step("retire")).document["details"]}
    assert "still has a" in still["vm-1"]
    assert ("relay-1" in still) == (kind == "ca")
    for machine in (node, relay):
        await rotator.report(await rotator.renew(machine))
    retired = await rotator.take("retire")
    assert retired["phase"] == "steady"
    [signer] = retired["signers"]
    assert signer["signer_id"] != old
    actions = [event["action"] for event in await plane.audit() if event["action"].startswith(f"{kind}.")]
    assert actions == [f"{kind}.retire", f"{kind}.activate", f"{kind}.prepare"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        (["prepare", "rollback"], "old"),
        (["prepare", "activate", "rollback", "retire"], "old"),
        (["prepare", "activate", "rollback", "activate", "retire"], "new"),
        (["prepare", "activate", "rollback", "activate", "rollback", "retire", "prepare", "activate", "retire"], "new"),
    ],
)
async def test_back_and_forth_ends_steady(plane: RunningControlPlane, kind: str, steps: list[str], kept: str):
    rotator = Rotator(plane, kind)
    old = await rotator.active()
    store, phases = TrustStore(), []
    for step in steps:
        assert store.replace(plane.control_plane.identities.trust.text, time.time()) or not phases
        phases.append((await rotator.take(step))["phase"])
        assert sum(signer["active"] for signer in (await rotator.look())["signers"]) == 1
        await plane.node(f"vm-{len(phases)}")  # a node can join in every phase
        await plane.database.scrub()
        await _forget_nodes(plane)
    assert store.replace(plane.control_plane.identities.trust.text, time.time())
    assert phases[-1] == "steady"
    assert (await rotator.active() == old) == (kept == "old")
    keys = set(await _key_names(plane))
    assert len(keys) == 3, "keys of signers that ended are gone, those in use are there"


async def _forget_nodes(plane: RunningControlPlane) -> None:
    listed = await plane.ok("GET", "/w/finance/api/2.0/nodes")
    for node in listed["nodes"]:
        await plane.ok("DELETE", f"/w/finance/api/2.0/nodes/{node['node_id']}")


async def _key_names(plane: RunningControlPlane) -> list[str]:
    state = plane.settings.state_directory
    return [str(path.relative_to(state)) for path in state.rglob("*key*.pem")] + [
        str(path.relative_to(state)) for path in (state / "signers").glob("*.pem") if "key" not in path.name
    ]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_step_sent_twice_is_taken_once(plane: RunningControlPlane, kind: str):
    rotator = Rotator(plane, kind)
    for step in ("prepare", "activate", "rollback", "activate", "retire"):
        before = await rotator.look()
        first = await rotator.take(step, version=before["version"])
        again = await rotator.take(step, version=before["version"])
        assert again["version"] == first["version"] == before["version"] + 1
        assert [one["signer_id"] for one in again["signers"]] == [one["signer_id"] for one in first["signers"]]


async def test_a_step_that_the_phase_has_not_is_refused(plane: RunningControlPlane):
    rotator = Rotator(plane, "ca")
    for step in ("activate", "retire", "rollback"):
        answer = await rotator.step(step)
        assert (answer.status, answer.error_code) == (409, "RESOURCE_CONFLICT")
        assert "next is prepare" in answer.document["message"]
    stale = await rotator.step("prepare", version=7)
    assert "went on meanwhile" in stale.document["message"]
    assert (await rotator.step("explode")).status == 404
    assert (await plane.call("GET", f"{plane.account}/rotations/moon")).status == 404
    assert (await rotator.step("prepare", colour="red")).status == 400


async def test_force_needs_a_reason_and_is_audited(plane: RunningControlPlane):
    rotator = Rotator(plane, "ca")
    node = await plane.node()
    await rotator.take("prepare")
    assert (await rotator.step("activate", force=True)).status == 400
    await rotator.take("activate", force=True, reason="vm-1 is scrap")
    [event] = await plane.audit(action="ca.activate", outcome="ok")
    assert event["details"]["forced"] is True
    assert event["details"]["laggards"] == [node.node_id]
    assert event["details"]["reason"] == "vm-1 is scrap"


async def test_an_authority_that_has_ended_signs_nothing_not_even_by_force(tmp_path: Path):
    clock = ManualClock(now=time.time())
    async with running_control_plane(tmp_path, clock=clock) as plane:
        rotator = Rotator(plane, "ca")
        clock.jump(-11 * 365 * 86_400)
        await plane.control_plane.rotations.take(Asked(SignerKind.CA, Step.PREPARE, Actor("test")))
        clock.jump(11 * 365 * 86_400)
        await plane.control_plane.identities.own.renew()
        [verdict, _] = (await rotator.look())["next_steps"]
        assert (verdict["step"], verdict["open"], verdict["behind"]) == ("activate", False, 1)
        refused = await rotator.step("activate", force=True, reason="it was prepared")
        assert refused.status == 409
        [detail] = refused.document["details"]
        assert detail["field"] == "control_plane"
        assert "the new issuing CA ended " in detail["problem"]
        for step in ("rollback", "prepare", "activate"):
            await rotator.take(step)


async def test_a_machine_that_was_not_heard_of_for_long_is_not_waited_for(tmp_path: Path):
    settings = settings_for(tmp_path, rotation={"live_hours": 0.0001})
    async with running_control_plane(tmp_path, settings=settings) as plane:
        await plane.node()
        await asyncio.sleep(0.5)
        rotator = Rotator(plane, "ca")
        await rotator.take("prepare")
        assert (await rotator.take("activate"))["phase"] == "activated"


async def test_tokens_of_operators_keep_their_key(plane: RunningControlPlane):
    rotator = Rotator(plane, "signing-key")
    node = await plane.node()
    asked = {"node": "vm-1", "scopes": ["health:read"], "lifetime_seconds": 600}
    token = await plane.ok("POST", "/w/finance/api/2.0/tokens/call", asked)
    await rotator.take("prepare")
    await rotator.report(node)
    await rotator.take("activate")
    await rotator.report(await rotator.renew(node))
    shut = await rotator.step("retire")
    assert "tokens of the key that is to end are out" in shut.document["message"]
    assert (await rotator.look())["next_steps"][0]["tokens_until"] == pytest.approx(token["expire_time"], abs=2000)
    verifier = await plane.verifier()
    assert verifier.verify(token["token"], TokenKind.CALL, time.time())
    await rotator.take("retire", force=True, reason="test")
    with pytest.raises(Exception, match="not trusted"):
        (await plane.verifier()).verify(token["token"], TokenKind.CALL, time.time())


async def activated_with_a_token_out(plane: RunningControlPlane) -> Rotator:
    """A rotation in which nothing but an operator's token stands on the key that is to end."""
    rotator = Rotator(plane, "signing-key")
    node = await plane.node()
    asked = {"node": "vm-1", "scopes": ["health:read"], "lifetime_seconds": 600}
    await plane.ok("POST", "/w/finance/api/2.0/tokens/call", asked)
    await rotator.take("prepare")
    await rotator.report(node)
    await rotator.take("activate")
    await rotator.report(await rotator.renew(node))
    return rotator


async def tokens_are_out_for(plane: RunningControlPlane, clock: OffsetClock) -> float:
    """How many seconds the key is held, by the clock as it is."""
    [progress] = await plane.control_plane.rotations.progress(SignerKind.SIGNING_KEY)
    verdict = progress.verdicts[Step.RETIRE]
    assert not verdict.open
    assert verdict.tokens_until is not None
    return verdict.tokens_until / 1000 - clock.now()


@pytest.mark.parametrize("seconds", [3600, 2 * DAY, -2 * DAY])
async def test_a_clock_that_is_set_ends_no_token(tmp_path: Path, seconds: float):
    clock = OffsetClock()
    async with running_control_plane(tmp_path, clock=clock) as plane:
        rotator = await activated_with_a_token_out(plane)
        clock.offset = seconds
        assert 500 < await tokens_are_out_for(plane, clock) <= 600
        assert "tokens of the key that is to end are out" in (await rotator.step("retire")).document["message"]


async def test_a_clock_that_is_ahead_at_the_start_ends_no_token(tmp_path: Path):
    clock = OffsetClock()
    async with running_control_plane(tmp_path, clock=clock) as plane:
        await activated_with_a_token_out(plane)
    clock.offset = 2 * DAY
    async with running_control_plane(tmp_path, clock=clock) as plane:
        await plane.control_plane.rotations.begin(await plane.control_plane.housekeeping.begin())
        assert 500 < await tokens_are_out_for(plane, clock) <= 600


async def test_whoever_slept_through_a_rotation_of_the_authority_comes_back(plane: RunningControlPlane):
    node, relay = await plane.node(), await plane.relay()
    old_roots = plane.foundation.signers.seats.roots
    trust = TrustStore()
    trust.replace(plane.control_plane.identities.trust.text, time.time())
    rotator = Rotator(plane, "ca")
    await rotator.take("prepare")
    for step in ("activate", "retire"):
        await rotator.take(step, force=True, reason="they sleep")
    assert not set(plane.foundation.signers.seats.roots) & set(old_roots)
    for machine in (node, relay):  # they know the old root only, and verify the endpoint by the cross certificate
        renewed = await rotator.renew(machine)
        assert verify_chain(renewed.identity.chain, plane.foundation.signers.seats.roots, time.time())
    assert trust.replace(plane.control_plane.identities.trust.text, time.time())


async def test_the_old_authority_cannot_make_anybody_any_more(
    plane: RunningControlPlane, monkeypatch: pytest.MonkeyPatch
):
    """Whoever stole its key makes certificates that TLS lets through, under a number that is on record too."""
    node = await plane.node()
    stolen = plane.forged_node(node.workspace_id, node.node_id)
    monkeypatch.setattr(x509, "random_serial_number", lambda: int(node.identity.serial, 16))
    copied = plane.forged_node(node.workspace_id, node.node_id)
    monkeypatch.undo()
    assert copied.serial == node.identity.serial
    rotator = Rotator(plane, "ca")
    await rotator.take("prepare")
    for step in ("activate", "retire"):
        await rotator.take(step, force=True, reason="stolen")
    for forged in (stolen, copied):
        answer = await plane.call("POST", "/api/2.0/nodes/self/listen-token", {}, identity=forged)
        assert (answer.status, answer.error_code) == (401, "UNAUTHENTICATED")
        assert "trusted no more" in answer.document["message"]


async def test_connections_that_stand_are_left_alone(plane: RunningControlPlane):
    made: list[object] = []
    trace = aiohttp.TraceConfig()

    async def note(*arguments: object) -> None:
        made.append(arguments)

    trace.on_connection_create_end.append(note)
    connector = aiohttp.TCPConnector(ssl=client_context(plane.foundation.signers.seats.roots), limit=1)
    async with aiohttp.ClientSession(connector=connector, trace_configs=[trace]) as session:
        rotator = Rotator(plane, "ca")
        for step in ("prepare", "activate", "retire"):
            await rotator.take(step)
            async with session.get(f"{plane.url}/api/2.0/trust-document") as answer:
                assert (await answer.json())["trust_document"]
    assert len(made) == 1


async def test_a_revoked_key_is_gone_at_once_and_another_signs(plane: RunningControlPlane):
    rotator = Rotator(plane, "signing-key")
    node = await plane.node()
    old = await rotator.active()
    path = f"{plane.account}/signing-keys/{old}/revoke"
    assert (await plane.call("POST", path, {})).status == 400
    seen = await plane.ok("POST", path, {"reason": "it was on a laptop"})
    assert seen["phase"] == "steady"
    assert await rotator.active() != old
    document = verify_trust_document(
        plane.control_plane.identities.trust.text, plane.foundation.signers.seats.roots, time.time()
    )
    assert old not in {key.key_id for key in document.token_keys} | set(document.retirement.left_token_keys)
    with pytest.raises(Exception, match="not trusted"):
        (await plane.verifier()).verify(node.answer["listen_token"], TokenKind.LISTEN, time.time())
    fresh = await plane.ok("POST", "/api/2.0/nodes/self/listen-token", {}, identity=node.identity)
    assert (await plane.verifier()).verify(fresh["listen_token"], TokenKind.LISTEN, time.time())
    assert (await plane.ok("POST", path, {"reason": "again"}))["version"] == seen["version"]
    assert (await plane.call("POST", f"{plane.account}/signing-keys/none/revoke", {"reason": "x"})).status == 404
    [event] = await plane.audit(action="signing-key.revoke", outcome="ok")
    assert event["details"]["reason"] == "it was on a laptop"


@pytest.mark.parametrize(
    ("steps", "revoked", "heir"),
    [
        (["prepare"], "incumbent", "candidate"),
        (["prepare"], "candidate", "incumbent"),
        (["prepare", "activate"], "incumbent", "candidate"),
        (["prepare", "activate"], "candidate", "incumbent"),
        (["prepare", "activate", "rollback"], "candidate", "incumbent"),
    ],
)
async def test_revoking_in_the_middle_of_a_rotation(
    plane: RunningControlPlane, steps: list[str], revoked: str, heir: str
):
    rotator = Rotator(plane, "signing-key")
    for step in steps:
        await rotator.take(step)
    ids = {signer["seat"]: signer["signer_id"] for signer in (await rotator.look())["signers"]}
    seen = await plane.ok("POST", f"{plane.account}/signing-keys/{ids[revoked]}/revoke", {"reason": "x"})
    assert seen["phase"] == "steady"
    assert await rotator.active() == ids[heir]


async def test_two_control_planes_at_once_take_one_step_and_the_other_ends(tmp_path: Path):
    """A copy of the state directory over one database: what the lock of the directory keeps out on one machine."""
    import shutil

    async with running_control_plane(tmp_path / "one") as first:
        shutil.copytree(first.settings.state_directory, tmp_path / "two" / "state")
        url = first.settings.database_url
        settings = settings_for(tmp_path / "two", database={"url": url})
        async with running_control_plane(tmp_path / "two", settings=settings) as second:
            answers = await asyncio.gather(
                *(Rotator(plane, "ca").step("prepare", version=1) for plane in (first, second) for _ in range(3))
            )
            async with first.database.read() as session:
                assert len(await signers.trusted(session, "ca")) == 2
            assert {answer.status for answer in answers} <= {200, 409, 500}
            assert await _versions(first) == await _versions(second)
            keyless = second if _has_keys(first) else first
            holder = first if keyless is second else second
            activated = await Rotator(holder, "ca").step("activate")
            assert activated.status == 200
            with pytest.raises(CertificateError):
                await _look_once(keyless.control_plane.rotations)


def _has_keys(plane: RunningControlPlane) -> bool:
    seats = plane.foundation.signers.seats
    assert seats.ca.candidate is not None
    names = seats.ca.candidate.key_names.values()
    return all((plane.settings.state_directory / f"{name}.pem").exists() for name in names)


async def _versions(plane: RunningControlPlane) -> int:
    return int((await Rotator(plane, "ca").look())["version"])


async def _look_once(rotations: Rotations) -> None:
    async with asyncio.timeout(30):
        await rotations.keep()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_node_that_asks_again_is_answered_with_what_signs_now(plane: RunningControlPlane, kind: str):
    rotator, node = Rotator(plane, kind), await plane.node()
    body = {"csr": build_csr(generate_key())}

    async def ask() -> dict[str, Any]:
        return await plane.ok("POST", "/api/2.0/nodes/self/renew", body, identity=node.identity)

    before = await ask()
    assert (await ask())["listen_token"] == before["listen_token"]
    await rotator.take("prepare")
    await rotator.report(node)
    await rotator.take("activate")
    after = await ask()
    assert (after["certificate_chain"] != before["certificate_chain"]) == (kind == "ca")
    assert after["listen_token"] != before["listen_token"]
    active = await Rotator(plane, "signing-key").active()
    assert parse_compact(after["listen_token"]).key_id == active
    assert (await ask())["listen_token"] == after["listen_token"]
