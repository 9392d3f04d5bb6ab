"""A control plane for one node, and the agent's parts that talk to it."""

import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from node_agent.clock_offset import ClockOffset
from node_agent.identity.bootstrap import Bootstrap
from node_agent.identity.control_plane import ControlPlane
from node_agent.identity.control_plane_tls import ControlPlaneTls
from node_agent.identity.evidence import JoinToken
from node_agent.identity.node_identity import IdentityStore
from node_agent.identity.trust_in_force import TrustInForce
from tests.support.agent_control_plane import JOIN_TOKEN, AgentControlPlane
from tests.support.identities import IdentityKit
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import SystemClock
from trunkline.runtime.logs import Logger


@pytest.fixture
async def control_plane(kit: IdentityKit) -> AsyncIterator[AgentControlPlane]:
    async with AgentControlPlane(kit).serve() as serving:
        yield serving


@pytest.fixture
def asking(control_plane: AgentControlPlane, kit: IdentityKit) -> ControlPlane:
    tls = ControlPlaneTls(kit.ca_file)
    return ControlPlane(
        control_plane.url, tls, proxy=None, request_seconds=5, clock=SystemClock(), clock_offset=ClockOffset()
    )


@pytest.fixture
def state(tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    directory.mkdir()
    return directory


@pytest.fixture
def make_bootstrap(asking: ControlPlane, state: Path, tmp_path: Path, log: Logger) -> Callable[[], Bootstrap]:
    """Makes what an agent that has just been started makes of the state directory."""
    token_file = tmp_path / "join-token"
    token_file.write_text(JOIN_TOKEN)
    token_file.chmod(0o600)

    def make() -> Bootstrap:
        return Bootstrap(
            control_plane=asking,
            evidence=JoinToken(token_file),
            store=IdentityStore(state),
            directory=state,
            take_trust=TrustInForce(state, SystemClock(), log).take,
            node_name=None,
            backoff=Backoff(random.Random(1), cap_seconds=0.01),
            clock=SystemClock(),
            log=log,
        )

    return make
