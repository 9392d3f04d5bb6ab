"""The keeper against a control plane over TLS: what it takes, what it refuses, what it reports."""

import asyncio
import json
import random
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from certs.errors import CertificateError
from certs.sealing import read_sealing_key
from certs.secret_bundles import BundledSecret, seal_bundle
from node_agent.identity.credentials import Credentials
from node_agent.identity.node_identity import IdentityStore, NodeIdentity
from node_agent.metrics import AgentMetrics
from node_agent.secrets.held import HeldSecrets
from node_agent.secrets.keeper import FETCH_PATH, REPORT_PATH, SEQUENCE_FILE, SecretKeeper
from node_agent.secrets.uses import SecretUse, UseLog
from tests.node_agent.identity.conftest import asking, control_plane, make_bootstrap, state  # noqa: F401 - fixtures
from tests.support.agent_control_plane import error
from tests.support.still_disk import a_disk_that_stands_still
from trunkline.client.control_plane_answers import ControlPlaneRefused, ControlPlaneUnreachable
from trunkline.runtime.clock import SystemClock

PASSWORD = BundledSecret("db", "password", 3, b"hunter2")
KEY = BundledSecret("web", "key", 4, b"\x00\xff")


@pytest.fixture
async def keeper_of(make_bootstrap, asking, state, policy, log):  # noqa: F811 - fixtures
    """Makes what a just started agent makes of the state directory."""
    node = await make_bootstrap().run()

    def make(credentials: Credentials | None = None, renew_certificate=lambda: None) -> SecretKeeper:
        return SecretKeeper(
            control_plane=asking,
            credentials=credentials or Credentials(node, IdentityStore(state)),
            held=HeldSecrets(),
            uses=UseLog("me"),
            policy=policy,
            directory=state,
            renew_certificate=renew_certificate,
            metrics=AgentMetrics(CollectorRegistry()),
            clock=SystemClock(),
            rng=random.Random(1),
            log=log,
        )

    return make


def stored(state) -> NodeIdentity:  # noqa: F811
    node = IdentityStore(state).load()
    assert node is not None
    return node


def reports(control_plane):  # noqa: F811
    return [document for path, document in control_plane.asked if path == REPORT_PATH]


async def test_secrets_are_taken_held_in_memory_and_reported(keeper_of, control_plane, state):  # noqa: F811
    keeper = keeper_of()
    await keeper.once()
    assert reports(control_plane) == [], "nothing was handed and nothing is held"
    control_plane.bundle = 11, [PASSWORD, KEY]
    await keeper.once()
    assert keeper._held.versions() == {"db/password": 3, "web/key": 4}
    [report] = reports(control_plane)
    assert (report["sequence"], report["held"], report["accepts"]) == (11, {"db/password": 3, "web/key": 4}, True)
    await keeper.once()
    questions = [document for path, document in control_plane.asked if path == FETCH_PATH]
    assert [question.get("held_sequence") for question in questions] == [None, None, 11]
    assert len(reports(control_plane)) == 1
    assert not any(b"hunter2" in path.read_bytes() for path in state.rglob("*") if path.is_file())


async def test_no_secret_is_in_force_before_the_number_of_its_bundle_is_on_the_disk(
    keeper_of,
    control_plane,  # noqa: F811
    state,  # noqa: F811
):
    keeper = keeper_of()
    control_plane.bundle = 11, [PASSWORD]
    with a_disk_that_stands_still() as disk:
        asking_once = asyncio.create_task(keeper.once())
        await disk.asked()
        assert len(keeper._held) == 0
        disk.move()
        await asking_once
    assert keeper._held.versions() == {"db/password": 3}
    assert json.loads((state / SEQUENCE_FILE).read_bytes()) == {"highest": 11}


async def test_an_older_bundle_is_refused_also_after_a_restart(keeper_of, control_plane, state):  # noqa: F811
    keeper = keeper_of()
    control_plane.bundle = 11, [PASSWORD]
    await keeper.once()
    for again in (11, 10, 1):
        control_plane.always, control_plane.bundle = True, (again, [KEY])
        for one in (keeper, keeper_of()):
            with pytest.raises(CertificateError, match="taken already"):
                await one.once()
    assert keeper._held.versions() == {"db/password": 3}, "what was held stays"
    assert json.loads((state / SEQUENCE_FILE).read_bytes()) == {"highest": 11}
    assert (state / SEQUENCE_FILE).stat().st_mode & 0o777 == 0o600
    control_plane.bundle = 12, [KEY]
    await keeper.once()
    assert keeper._held.versions() == {"web/key": 4}


async def test_another_nodes_bundle_and_other_numbers_are_refused(keeper_of, control_plane, kit):  # noqa: F811
    keeper = keeper_of()
    key = read_sealing_key(next(d["sealing_key"] for p, d in control_plane.asked if p == "/api/2.0/bootstrap"))
    other = kit.node_spiffe_id(node="nd-other")
    for sealed in (
        seal_bundle([PASSWORD], key, other, 11),
        seal_bundle([PASSWORD], key, kit.node_spiffe_id(), 12),
        "x",
    ):
        control_plane.canned_bundle = {"sequence": 11, "sealed": sealed}
        with pytest.raises(CertificateError):
            await keeper.once()
    for nonsense in ({}, {"sequence": "x"}, {"sequence": 11, "sealed": 7}):
        control_plane.canned_bundle = nonsense
        with pytest.raises(ControlPlaneUnreachable):
            await keeper.once()
    assert len(keeper._held) == 0


async def test_a_revoked_grant_empties_the_memory(keeper_of, control_plane):  # noqa: F811
    keeper = keeper_of()
    control_plane.bundle = 11, [PASSWORD]
    await keeper.once()
    control_plane.bundle = 12, []
    await keeper.once()
    assert (len(keeper._held), reports(control_plane)[-1]["held"]) == (0, {})


async def test_the_owner_keeps_scopes_out(keeper_of, control_plane, policy, policy_file):  # noqa: F811
    policy_file.write_text(policy_file.read_text() + "[secrets]\nallowed_scopes = ['web']\n")
    policy.reload()
    keeper = keeper_of()
    control_plane.bundle = 11, [PASSWORD, KEY]
    await keeper.once()
    assert reports(control_plane)[-1]["held"] == {"web/key": 4}
    policy_file.write_text("[secrets]\nenabled = false\n")
    policy.reload()
    assert len(keeper._held) == 0, "at once, not at the next question"
    asked = control_plane.count(FETCH_PATH)
    await keeper.once()
    assert (control_plane.count(FETCH_PATH), reports(control_plane)[-1]["accepts"]) == (asked, False)


async def test_what_may_come_in_again_is_asked_for_anew(keeper_of, control_plane, policy, policy_file):  # noqa: F811
    keeper = keeper_of()
    control_plane.bundle = 11, [PASSWORD]
    await keeper.once()
    policy_file.write_text("[secrets]\nenabled = false\n")
    policy.reload()
    await keeper.once()
    policy_file.write_text("")
    policy.reload()
    control_plane.bundle = 12, [PASSWORD]
    await keeper.once()
    assert keeper._held.versions() == {"db/password": 3}


async def test_a_full_disk_does_not_stop_a_rotation(keeper_of, control_plane, monkeypatch, logged):  # noqa: F811
    from certs.errors import KeyFileError

    def full(path, content):
        raise KeyFileError("no space left")

    monkeypatch.setattr("node_agent.secrets.keeper.write_secret", full)
    keeper = keeper_of()
    control_plane.bundle = 11, [PASSWORD]
    await keeper.once()
    assert keeper._held.versions() == {"db/password": 3}
    assert "secrets.sequence_not_stored" in [entry["event"] for entry in logged.entries]


@asynccontextmanager
async def running(keeper):
    task = asyncio.ensure_future(keeper.run())
    yield
    task.cancel()
    await asyncio.wait([task])


async def test_a_notice_is_followed_by_a_question_and_an_outage_by_another(keeper_of, control_plane):  # noqa: F811
    keeper = keeper_of()
    async with running(keeper):
        await control_plane.asked_for(FETCH_PATH, 1)
        control_plane.bundle = 11, [PASSWORD]
        control_plane.faults[FETCH_PATH] = [lambda document: error(503, "X")]
        keeper._held.ask()
        given_up = asyncio.get_running_loop().create_future()
        found = await keeper._held.obtain({"db/password"}, {}, given_up, timeout_seconds=20)
        assert found["db/password"].value == b"hunter2"


async def test_a_node_without_the_key_on_record_renews_once_and_asks_again_with_the_next(
    keeper_of,
    control_plane,  # noqa: F811
    state,  # noqa: F811
    logged,
):
    """As one whose machine was put back to a snapshot: its identity was confirmed, and another is on record."""
    credentials, renewals = Credentials(stored(state).settled(), IdentityStore(state)), []
    control_plane.bundle = 11, [PASSWORD]
    control_plane.faults[FETCH_PATH] = [lambda document: error(409, "RESOURCE_CONFLICT")] * 2
    keeper = keeper_of(credentials, lambda: renewals.append(1))
    for _ in range(2):
        with pytest.raises(ControlPlaneRefused):
            await keeper.once()
    assert renewals == [1], "two machines of one identity must not renew in turns"
    keeper._held.asked.clear()
    credentials.adopt(replace(credentials.current, confirmed=False))
    assert not keeper._held.asked.is_set()
    credentials.adopt(credentials.current.settled())
    assert keeper._held.asked.is_set()
    await keeper.once()
    assert keeper._held.versions() == {"db/password": 3}
    assert [entry["event"] for entry in logged.entries].count("secrets.key_outdated") == 1


async def test_a_renewal_that_is_not_confirmed_yet_is_waited_for(keeper_of, control_plane, state):  # noqa: F811
    node, renewals = replace(stored(state), confirmed=False), []
    control_plane.faults[FETCH_PATH] = [lambda document: error(409, "RESOURCE_CONFLICT")]
    with pytest.raises(ControlPlaneRefused):
        await keeper_of(Credentials(node, IdentityStore(state)), lambda: renewals.append(1)).once()
    assert renewals == []


async def test_uses_are_reported_soon_and_until_they_are_taken(keeper_of, control_plane):  # noqa: F811
    keeper = keeper_of()
    async with running(keeper):
        await control_plane.asked_for(FETCH_PATH, 1)
        control_plane.faults[REPORT_PATH] = [lambda document: error(503, "X")]
        keeper._uses.record(SecretUse("db/password", 3, "c-1", "operator/x", "file", 1))
        await control_plane.asked_for(REPORT_PATH, 2)
    first, second = reports(control_plane)
    assert first == second
    assert first["uses"][0]["command_id"] == "c-1"


async def test_a_report_that_is_never_taken_holds_up_no_other(keeper_of, control_plane):  # noqa: F811
    """As one with a form that an earlier control plane does not know."""
    keeper = keeper_of()
    async with running(keeper):
        await control_plane.asked_for(FETCH_PATH, 1)
        control_plane.faults[REPORT_PATH] = [lambda document: error(400, "INVALID_PARAMETER_VALUE")] * 2
        for number in (1, 2, 3):
            keeper._uses.record(SecretUse("db/password", 3, f"c-{number}", "operator/x", "file", 1))
            await control_plane.asked_for(REPORT_PATH, number)
    said = [([use["command_id"] for use in one["uses"]], one["uses_dropped"]) for one in reports(control_plane)]
    assert said == [(["c-1"], 0), (["c-2"], 1), (["c-3"], 2)]


async def test_a_damaged_number_counts_as_none(keeper_of, control_plane, state, logged):  # noqa: F811
    (state / SEQUENCE_FILE).write_text("x")
    (state / SEQUENCE_FILE).chmod(0o600)
    control_plane.bundle = 11, [PASSWORD]
    await keeper_of().once()
    assert "secrets.sequence_damaged" in [entry["event"] for entry in logged.entries]
