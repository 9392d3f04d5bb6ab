"""Bootstrap against a control plane with real certificates; every step may be the last one before a crash."""

import asyncio
import json

import pytest
from aiohttp import web

from certs.errors import KeyFileError
from node_agent.identity.bootstrap import BootstrapRefused
from node_agent.identity.node_identity import IdentityStore
from tests.support.agent_control_plane import error

CHALLENGE, BOOTSTRAP, CONFIRM = (
    "/api/2.0/bootstrap/challenge",
    "/api/2.0/bootstrap",
    "/api/2.0/bootstrap/confirm",
)


def questions(control_plane):
    return [document for path, document in control_plane.asked if path == BOOTSTRAP]


async def test_a_machine_becomes_a_node(make_bootstrap, control_plane, state, kit):
    control_plane.relays = ["https://relay.example:443"]
    node = await make_bootstrap().run()
    assert node.spiffe_id == kit.node_spiffe_id()
    assert (node.node, node.workspace, node.relays) == ("vm-1", "finance", ("https://relay.example:443",))
    assert control_plane.confirmed == [node.identity.serial]
    stored = IdentityStore(state).load()
    assert stored is not None
    assert stored.listen_token.reveal() == node.listen_token.reveal()
    assert sorted(path.name for path in state.iterdir()) == ["identity.json", "init.json", "trust-document.jws"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in state.iterdir())


class Killed(BaseException):
    """What a SIGKILL looks like from inside: nothing after it runs."""


@pytest.mark.parametrize("path", [CHALLENGE, BOOTSTRAP, CONFIRM])
@pytest.mark.parametrize("answered", [False, True])
async def test_an_agent_killed_anywhere_goes_on_with_the_same_question(
    make_bootstrap, control_plane, state, path, answered
):
    """The agent dies while it waits for the answer, which the control plane has given, or has not."""
    bootstrap = make_bootstrap()
    reached = asyncio.get_running_loop().create_future()

    async def die(asked, document=None, **options):
        if asked == path:
            if answered:
                await call(asked, document, **options)
            reached.set_result(None)
            await asyncio.Event().wait()
        return await call(asked, document, **options)

    call = bootstrap._control_plane.call
    bootstrap._control_plane.call = die
    running = asyncio.ensure_future(bootstrap.run())
    await reached
    running.cancel()
    await asyncio.wait([running])
    bootstrap._control_plane.call = call
    node = await make_bootstrap().run()
    assert len({question["csr"] for question in questions(control_plane)}) == 1
    assert len(control_plane.answers) == 1
    assert control_plane.confirmed[-1] == node.identity.serial
    assert sorted(path.name for path in state.iterdir()) == ["identity.json", "init.json", "trust-document.jws"]
    assert json.loads((state / "init.json").read_bytes())["state"] == "DUE", "it is still to be initialised"


async def test_a_disk_that_fails_leaves_no_half_identity(make_bootstrap, control_plane, state, monkeypatch):
    def full(self, node):
        raise KeyFileError("no space left on the device")

    with monkeypatch.context() as patched:
        patched.setattr(IdentityStore, "save_successor", full)
        with pytest.raises(KeyFileError):
            await make_bootstrap().run()
    assert IdentityStore(state).load() is None
    await make_bootstrap().run()
    assert len(control_plane.answers) == 1


async def test_an_outage_is_waited_out(make_bootstrap, control_plane):
    for path in (CHALLENGE, BOOTSTRAP, CONFIRM):
        control_plane.faults[path] = [lambda document: error(503, "TEMPORARILY_UNAVAILABLE")] * 2
    await make_bootstrap().run()
    assert len(control_plane.answers) == 1


async def test_a_join_token_that_is_refused_is_the_end(make_bootstrap, tmp_path):
    (tmp_path / "join-token").write_text("tljt-another-one-0123456789")
    with pytest.raises(BootstrapRefused) as refused:
        await make_bootstrap().run()
    assert "tljt" not in str(refused.value)


async def test_evidence_that_waiting_will_not_bring_is_not_asked_for_again_and_again(make_bootstrap, tmp_path):
    (tmp_path / "join-token").unlink()
    bootstrap, pauses = make_bootstrap(), []

    async def pause(reason, *, at_least_seconds=0.0):
        pauses.append(at_least_seconds)
        raise Killed

    bootstrap._pause = pause
    with pytest.raises(Killed):
        await bootstrap.run()
    assert pauses == [60.0]


async def test_a_nonce_of_before_the_crash_that_has_expired_is_replaced(make_bootstrap, control_plane, state):
    control_plane.faults[BOOTSTRAP] = [lambda document: error(503, "X")]
    bootstrap = make_bootstrap()
    bootstrap._pause = _stop
    with pytest.raises(Killed):
        await bootstrap.run()
    control_plane.nonces.clear()
    await make_bootstrap().run()
    assert len({question["nonce"] for question in questions(control_plane)}) == 2


async def _stop(reason, **options):
    raise Killed


async def test_answers_that_make_no_sense_are_asked_for_again(make_bootstrap, control_plane, kit):
    good = control_plane._identity

    def of_another_key(csr):
        return good(csr) | {"certificate_chain": kit.issue_node().chain.pem}

    for wrong in (
        lambda csr: {},
        lambda csr: good(csr) | {"node_id": "nd-other"},
        lambda csr: good(csr) | {"trust_document": "x"},
        of_another_key,
    ):
        control_plane._identity = wrong
        bootstrap = make_bootstrap()
        bootstrap._pause = _stop
        with pytest.raises(Killed):
            await bootstrap.run()
        control_plane.answers.clear()
    control_plane._identity = good
    await make_bootstrap().run()


async def test_an_answer_that_is_not_json(make_bootstrap, control_plane):
    control_plane.faults[CHALLENGE] = [lambda document: web.Response(text="<html>")]
    await make_bootstrap().run()


async def test_a_damaged_attempt_begins_anew(make_bootstrap, state):
    (state / "bootstrap.json").write_text(json.dumps({"key": "x"}))
    (state / "bootstrap.json").chmod(0o600)
    await make_bootstrap().run()


async def test_a_confirmation_that_is_refused_begins_anew(make_bootstrap, control_plane):
    control_plane.faults[CONFIRM] = [lambda document: error(401, "UNAUTHENTICATED")]
    with pytest.raises(BootstrapRefused):
        await make_bootstrap().run()
    assert len({question["csr"] for question in questions(control_plane)}) == 2
