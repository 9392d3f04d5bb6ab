"""Each submit runs exactly once, whatever is lost: real SDK, control plane and agent, in one process.

The reply of every POST is lost once, or the request, or half of the reply; and the first attempt of every submit to the
node is cut at one of the steps of the protocol. Meanwhile the control plane is taken down and started again over its
database, and the agent over its directory. What counts is what the commands did to the disk.

`TRUNKLINE_SUBMITS=1000` makes it the long run (`make soak-exactly-once`).
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from certs.chains import certificates_to_pem
from certs.spiffe import node_id
from node_agent.commands.ledger import CommandBounds, CommandLedger
from node_agent.commands.records import CommandStore
from node_agent.policy_file import PolicySource
from tests.support.agent_exchanges import AgentTrust, agent_in_memory
from tests.support.command_stage import IMPATIENT, quick
from tests.support.control_planes import TRUST_DOMAIN, RunningControlPlane, running_control_plane
from tests.support.identities import IdentityKit
from tests.support.lossy_front import Loss, LossyFront, lossy_front
from tests.support.lossy_relay import Cut, LossyRelay
from tests.support.supervisors import collect_supervisors
from trunkline.client.commands import CommandApi, CommandRequest, Target
from trunkline.client.control_plane import ControlPlane
from trunkline.client.errors import ApiError, TrunklineError
from trunkline.client.records.commands import Command, CommandState
from trunkline.runtime.clock import SystemClock
from trunkline.runtime.logs import get_logger

SUBMITS = int(os.environ.get("TRUNKLINE_SUBMITS", "120"))
AT_ONCE = 8
PHASES = 4
SEED = 20261125
LOST_LINKS = 120 / SUBMITS
"""How much rarer lost links are than other cuts: a link that is lost again and again is dialled ever later, up to
half a minute, and commands that are not delivered in time are lost by right. The long run has as many as the short."""


class Nothing:
    """A meter that counts nothing."""

    def submitted(self) -> None: ...

    def ended(self, state: object) -> None: ...


class World:
    """Everything between a caller and the disk of a node; parts of it are taken down and come back."""

    def __init__(self, directory: Path) -> None:
        rng = random.Random(SEED)
        self.directory = directory
        self.effects = directory / "effects"
        self.effects.mkdir()
        for name in ("kit", "agent"):
            (directory / name).mkdir()
        self.kit = IdentityKit(directory / "kit")
        cuts, weights = list(Cut), [LOST_LINKS if cut is Cut.LINK else 1.0 for cut in Cut]
        self.relay = LossyRelay(lambda _: rng.choices(cuts, weights)[0])
        self.losses = lambda _: rng.choice([Loss.REPLY, Loss.REPLY, Loss.REQUEST, Loss.HALF])
        self.commands_directory = directory / "agent" / "commands"
        self.trust: AgentTrust | None = None
        policy = directory / "policy.toml"
        policy.write_text("[commands]\nmax_queued = 1000\n" + ("run_as = 'root'\n" if os.geteuid() == 0 else ""))
        policy.chmod(0o600)
        self.policy = PolicySource(policy, get_logger("test"))

    async def enrol(self) -> None:
        """Make the node known, and learn whose tokens it is to believe."""
        async with self._control_plane() as plane:
            await plane.relay()
            enrolled = await plane.node("vm-1")
            node = node_id(TRUST_DOMAIN, enrolled.workspace_id, enrolled.node_id)
            self.trust = AgentTrust(node, await plane.verifier())

    @asynccontextmanager
    async def client(self, front: LossyFront, ca_file: Path) -> AsyncIterator[CommandApi]:
        """Run the control plane, as a new process would over what others left, and a client of it."""
        async with self._control_plane() as plane:
            front.plane = plane
            async with ControlPlane(front.url, plane.operator_token, ca_file=ca_file) as client:
                yield client.workspace("finance").commands
            front.plane = None

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[None]:
        """Run the agent, as a new process would over what others left."""
        assert self.trust is not None
        store = CommandStore(self.commands_directory)
        log = get_logger("test")
        ledger = CommandLedger(store, self.policy, CommandBounds(), Nothing(), SystemClock(), log)
        await ledger.open()
        here, rng = self.directory, random.Random(1)
        async with agent_in_memory(self.kit, self.trust, ledger, self.policy, log, here, rng) as agent:
            self.relay.agent = agent
            yield
            self.relay.agent = None
        await ledger.stop()

    @asynccontextmanager
    async def _control_plane(self) -> AsyncIterator[RunningControlPlane]:
        bounds = IMPATIENT | {"delivery_seconds": 60, "call_timeout_seconds": 5.0}
        settings = quick(self.directory, **bounds, keep_output_bytes=0)
        dial = self.relay.relay.dial
        async with running_control_plane(
            self.directory, settings=settings, dial=dial, fleet=True, link_timeout_seconds=0.5
        ) as plane:
            yield plane

    def request(self, number: int, word: str = "x") -> CommandRequest:
        effect = self.effects / f"{number}"
        argv = ["sh", "-c", f'echo {word} >> "$1"', "sh", str(effect)]
        return CommandRequest(argv=argv, command_id=f"once-{number}", timeout_seconds=60)

    def runs(self) -> Counter[int]:
        """How often each command ran, by what it wrote."""
        return Counter({int(path.name): path.read_text().count("x\n") for path in self.effects.iterdir()})


async def taken(api: CommandApi, request: CommandRequest) -> list[Command]:
    """Submit it for as long as that is of use: a slow machine may need longer for it than the SDK tries."""
    while True:
        try:
            return await api.submit(Target(node="vm-1"), request)
        except TrunklineError as error:
            if not error.retry:
                raise


async def submit_all(api: CommandApi, numbers: range, world: World) -> None:
    """Submit these commands, some at a time, each until it is taken."""
    waiting = iter(numbers)

    async def work() -> None:
        for number in waiting:
            [command] = await taken(api, world.request(number))
            assert command.command_id == f"once-{number}"

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def submit_again(api: CommandApi, numbers: range, world: World) -> None:
    """Submit what was submitted before, over all restarts so far: it is the same, and another body is a conflict."""
    await submit_all(api, numbers, world)
    with pytest.raises(ApiError) as caught:
        await api.submit(Target(node="vm-1"), world.request(numbers[-1], "other"))
    assert caught.value.status == 409


@pytest.mark.timeout(900)
async def test_every_submit_runs_exactly_once_whatever_is_lost(tmp_path: Path) -> None:
    world = World(tmp_path)
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(certificates_to_pem(world.kit.roots))
    await world.enrol()
    async with lossy_front(world.kit, world.losses) as front:
        for phase in range(PHASES):
            numbers = range(SUBMITS * phase // PHASES, SUBMITS * (phase + 1) // PHASES)
            async with world.agent(), world.client(front, ca_file) as api:
                await submit_all(api, numbers, world)
            # Whatever was under way, at the control plane or at the node, is taken up by the next of each.
            async with world.agent(), world.client(front, ca_file) as api:
                ended = [await api.wait(f"once-{number}", timeout_seconds=120) for number in numbers]
                assert {command.state for command in ended} == {CommandState.SUCCEEDED}
                await world.relay.deliver_late()
                await submit_again(api, range(0, numbers.stop, 7), world)
        await world.relay.close()
    collect_supervisors(world.commands_directory)
    assert world.runs() == Counter(dict.fromkeys(range(SUBMITS), 1))
    assert set(world.relay.cuts) == set(Cut), world.relay.cuts
    assert set(front.losses) == set(Loss), front.losses
