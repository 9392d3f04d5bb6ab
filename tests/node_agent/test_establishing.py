"""What is stored and what is lost when an agent starts: it goes on with what is good, and makes little anew."""

import random

import pytest

from node_agent.establishing import Enrolment, establish_identity, prepare_enrolment
from node_agent.identity.trust_in_force import TRUST_FILE
from node_agent.settings import ENVIRONMENT_PREFIX, AgentSettings
from tests.support.agent_control_plane import JOIN_TOKEN, AgentControlPlane, error
from tests.support.identities import IdentityKit
from trunkline.client.clock_offset import ClockOffset
from trunkline.runtime.clock import SystemClock
from trunkline.runtime.daemon import StartError
from trunkline.runtime.settings import load_settings

BOOTSTRAP, TRUST = "/api/2.0/bootstrap", "/api/2.0/trust-document"


@pytest.fixture
async def control_plane(kit):
    async with AgentControlPlane(kit).serve() as serving:
        yield serving


@pytest.fixture
def state(tmp_path):
    directory = tmp_path / "state"
    directory.mkdir()
    return directory


@pytest.fixture
def start(control_plane, kit, state, tmp_path, log, monkeypatch):
    """Makes what an agent that has just been started makes of the state directory, which it joins with a token."""
    token = tmp_path / "join-token"
    token.write_text(JOIN_TOKEN)
    token.chmod(0o600)
    path = tmp_path / "node-agent.toml"
    path.write_text(
        f"state_directory = '{state}'\n[control_plane]\nurl = '{control_plane.url}'\nca_file = '{kit.ca_file}'\n"
        f"[bootstrap]\nmethod = 'join_token'\njoin_token_file = '{token}'\n"
    )
    settings = load_settings(AgentSettings, path, {}, prefix=ENVIRONMENT_PREFIX)
    clock = SystemClock()
    monkeypatch.setattr("node_agent.establishing.BOOTSTRAP_BACKOFF_CAP_SECONDS", 0.01)

    async def started() -> tuple[Enrolment, str]:
        enrolment = prepare_enrolment(
            settings, proxy_for=lambda url: None, clock_offset=ClockOffset(clock), clock=clock, rng=random.Random(1)
        )
        node = await establish_identity(enrolment, clock, log)
        return enrolment, node.identity.serial

    return started


async def test_a_lost_trust_document_costs_no_identity(start, control_plane, state):
    _, serial = await start()
    (state / TRUST_FILE).unlink()
    control_plane.sequence = 3
    control_plane.faults[TRUST].append(lambda document: error(503, "TEMPORARILY_UNAVAILABLE"))
    enrolment, again = await start()
    assert again == serial
    assert enrolment.trust.sequence == 3
    assert (control_plane.count(BOOTSTRAP), control_plane.count(TRUST)) == (1, 2)
    assert (state / TRUST_FILE).exists()


async def test_an_identity_of_another_authority_is_of_no_use_with_the_trust_that_is_fetched(
    start, control_plane, state, tmp_path
):
    await start()
    (state / TRUST_FILE).unlink()
    (tmp_path / "other").mkdir()
    foreign = IdentityKit(tmp_path / "other").trust_document(2)
    control_plane.trust_document = lambda: foreign
    with pytest.raises(StartError, match="does not admit this node"):
        await start()
    assert control_plane.count(BOOTSTRAP) == 2
