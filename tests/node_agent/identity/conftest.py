"""A control plane for one node, and the agent's parts that talk to it."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from node_agent.identity.bootstrap import Bootstrap
from node_agent.identity.control_plane import ControlPlane
from node_agent.identity.control_plane_tls import ControlPlaneTls
from node_agent.identity.credentials import Credentials
from node_agent.identity.evidence import JoinToken
from node_agent.identity.late_renewal import LateRenewal
from node_agent.identity.node_identity import IdentityStore, NodeIdentity
from node_agent.identity.renewal import Renewal
from node_agent.identity.returning import Returning
from node_agent.identity.succession import Step, Succession, pass_by
from node_agent.identity.trust_in_force import TrustInForce
from node_agent.init_scripts.record import InitFiles
from node_agent.metrics import AgentMetrics
from tests.support.agent_control_plane import JOIN_TOKEN, AgentControlPlane
from tests.support.identities import IdentityKit, none_ended
from trunkline.client.clock_offset import ClockOffset
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock, SystemClock
from trunkline.runtime.logs import Logger

REQUEST_SECONDS = 30.0


@pytest.fixture
async def control_plane(kit: IdentityKit) -> AsyncIterator[AgentControlPlane]:
    async with AgentControlPlane(kit).serve() as serving:
        yield serving


@pytest.fixture
def asking(control_plane: AgentControlPlane, kit: IdentityKit) -> ControlPlane:
    tls = ControlPlaneTls(kit.ca_file)
    clock = SystemClock()
    return ControlPlane(
        control_plane.url,
        tls,
        proxy=None,
        request_seconds=REQUEST_SECONDS,
        clock=clock,
        clock_offset=ClockOffset(clock),
        verdict=none_ended,
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
            note_new_node=InitFiles(state, log).note_new_node,
            wishes={},
            backoff=Backoff(random.Random(1), cap_seconds=0.01),
            clock=SystemClock(),
            log=log,
        )

    return make


class OffsetClock(SystemClock):
    """The machine's clock, moved forwards."""

    __slots__ = ("offset",)

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset

    def now(self) -> float:
        return super().now() + self.offset


@dataclass
class Keeper:
    """What an agent that has just been started makes of the state directory, to keep its identity good."""

    store: IdentityStore
    credentials: Credentials
    renewal: Renewal
    returning: Returning
    proved: list[str]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.renewal.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def until(self, condition: Callable[[NodeIdentity], bool]) -> NodeIdentity:
        """Run until the identity in force is as wanted."""
        met = asyncio.Event()
        self.credentials.subscribe(lambda before, after: met.set() if condition(after) else None)
        async with self.running() as task:
            waiting = asyncio.ensure_future(met.wait())
            await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED, timeout=30)
            waiting.cancel()
            if task.done():
                task.result()
            assert met.is_set(), "the identity did not come about"
        return self.credentials.current


@pytest.fixture
def make_keeper(
    asking: ControlPlane, state: Path, control_plane: AgentControlPlane, make_bootstrap: Any, log: Logger
) -> Callable[..., Keeper]:
    """Makes a `Keeper`; `prove` may refuse a successor, `passed` may stop everything at a step."""

    def make(
        clock: Clock | None = None,
        *,
        passed: Callable[[Step], None] = pass_by,
        prove: Callable[[NodeIdentity], bool] = lambda heir: True,
        late: bool = True,
    ) -> Keeper:
        clock, rng, store = clock or SystemClock(), random.Random(1), IdentityStore(state)
        control_plane.now = clock.now
        node = store.load()
        assert node is not None
        credentials, trust, proved = Credentials(node, store), TrustInForce(state, clock, log), []
        succession = Succession(
            control_plane=asking,
            store=store,
            trust=trust,
            directory=state,
            clock=clock,
            log=log,
            passed=passed,
        )
        returning = Returning(
            store=store,
            succession=succession,
            late_renewal=LateRenewal(asking, succession) if late else None,
            bootstrap=make_bootstrap(),
            backoff=Backoff(rng, cap_seconds=0.01),
            clock=clock,
            log=log,
        )

        async def prove_it(heir: NodeIdentity) -> bool:
            proved.append(heir.identity.serial)
            return prove(heir)

        renewal = Renewal(
            control_plane=asking,
            credentials=credentials,
            trust=trust,
            succession=succession,
            returning=returning,
            prove=prove_it,
            metrics=AgentMetrics(CollectorRegistry()),
            clock=clock,
            rng=rng,
            log=log,
        )
        renewal._backoff = Backoff(rng, cap_seconds=0.01)
        return Keeper(store, credentials, renewal, returning, proved)

    return make
