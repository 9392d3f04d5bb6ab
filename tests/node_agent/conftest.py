"""What the agent's tests share: quiet loggers, policies, and a ledger of commands on a temporary directory."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest
import structlog
from structlog.testing import LogCapture

from node_agent.commands.ledger import CommandBounds, CommandLedger
from node_agent.commands.records import CommandStore
from node_agent.commands.states import CommandState
from node_agent.policy_file import PolicySource
from tests.support.agent_exchanges import agent, kit  # noqa: F401 - fixtures
from tests.support.supervisors import collect_supervisors, end_commands
from trunkline.runtime.clock import Clock, SystemClock
from trunkline.runtime.logs import Logger


async def until(predicate: Callable[[], bool]) -> None:
    """Wait until something outside the event loop has come about: a process's deed, a file."""
    async with asyncio.timeout(30):
        while not predicate():  # noqa: ASYNC110 - nobody sets an event for us there
            await asyncio.sleep(0.005)


@pytest.fixture(name="until")
def until_fixture() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    return until


class CountedCommands:
    """A meter that remembers."""

    def __init__(self) -> None:
        self.taken = 0
        self.endings: list[CommandState] = []

    def submitted(self) -> None:
        self.taken += 1

    def ended(self, state: CommandState) -> None:
        self.endings.append(state)


@pytest.fixture
def logged() -> LogCapture:
    return LogCapture()


@pytest.fixture
def log(logged: LogCapture) -> Logger:
    """A logger that writes nowhere; `logged.entries` has its events."""
    return cast(Logger, structlog.wrap_logger(None, processors=[logged], wrapper_class=structlog.stdlib.BoundLogger))


@pytest.fixture
def rng() -> random.Random:
    return random.Random(1)


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text("[commands]\nrun_as = 'root'\n" if _is_root() else "")
    path.chmod(0o600)
    return path


@pytest.fixture
def policy(policy_file: Path, log: Logger) -> PolicySource:
    return PolicySource(policy_file, log)


@pytest.fixture
def meter() -> CountedCommands:
    return CountedCommands()


MakeLedger = Callable[..., CommandLedger]


@pytest.fixture
async def make_ledger(
    tmp_path: Path, policy: PolicySource, meter: CountedCommands, log: Logger
) -> AsyncIterator[MakeLedger]:
    made: list[CommandLedger] = []

    def make(bounds: CommandBounds | None = None, clock: Clock | None = None) -> CommandLedger:
        store, bounds = CommandStore(tmp_path / "commands"), bounds or CommandBounds(grace_seconds=30.0)
        ledger = CommandLedger(store, policy, bounds, meter, clock or SystemClock(), log)
        made.append(ledger)
        return ledger

    yield make
    for ledger in made:
        await end_commands(ledger)
    collect_supervisors(tmp_path / "commands")


@pytest.fixture
async def ledger(make_ledger: MakeLedger) -> CommandLedger:
    ledger = make_ledger()
    await ledger.open()
    return ledger


def _is_root() -> bool:
    return os.geteuid() == 0
