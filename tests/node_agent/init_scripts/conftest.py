"""A bootstrapped node with a real ledger, and what initialises it, against a control plane over TLS."""

import asyncio
import base64
import hashlib
import random
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from node_agent.commands.ledger import CommandLedger
from node_agent.identity.credentials import Credentials
from node_agent.identity.node_identity import IdentityStore
from node_agent.init_scripts.initialisation import Initialisation, InitParts
from node_agent.init_scripts.readiness import Readiness
from node_agent.init_scripts.record import InitFiles, InitRecord
from node_agent.init_scripts.reporting import REPORT_PATH
from node_agent.metrics import AgentMetrics
from tests.node_agent.identity.conftest import asking, control_plane, make_bootstrap, state  # noqa: F401 - fixtures
from tests.support.agent_control_plane import AgentControlPlane
from trunkline.runtime.clock import SystemClock


def handed(*scripts: tuple[str, bytes], run: int = 1, **fields: Any) -> dict[str, Any]:
    """A plan as the control plane hands it; scripts are named, and their ids follow from that."""
    return {"run": run, "scripts": [entry(name, content) for name, content in scripts], **fields}


def entry(name: str, content: bytes) -> dict[str, Any]:
    letters = "".join(chr(ord("a") + byte % 26) for byte in hashlib.sha256(name.encode()).digest()[:20])
    return {
        "script_id": f"is-{letters}",
        "name": name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "script": base64.b64encode(content).decode(),
    }


@dataclass
class Started:
    """What an agent that has just been started makes of the state directory."""

    initialisation: Initialisation
    readiness: Readiness
    record: InitRecord
    ledger: CommandLedger
    control_plane: AgentControlPlane
    metrics: AgentMetrics

    @asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.initialisation.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def until_final(self) -> None:
        async with asyncio.timeout(20):
            while not self.record.state.final:  # noqa: ASYNC110 - processes end in their own time
                await asyncio.sleep(0.01)

    async def until_reported(self) -> dict[str, Any]:
        async with asyncio.timeout(20):
            while self.record.reported < self.record.sequence:  # noqa: ASYNC110 - over a real connection
                await asyncio.sleep(0.01)
        return [document for path, document in self.control_plane.asked if path == REPORT_PATH][-1]

    async def initialised(self) -> None:
        async with self.running():
            await self.until_final()


MakeStarted = Callable[[CommandLedger], Started]


@pytest.fixture
async def start(make_bootstrap, asking, control_plane, state: Path, policy, log) -> MakeStarted:  # noqa: F811
    node = await make_bootstrap().run()
    metrics = AgentMetrics(CollectorRegistry())

    def make(ledger: CommandLedger) -> Started:
        readiness = Readiness()
        parts = InitParts(
            control_plane=asking,
            credentials=Credentials(node, IdentityStore(state)),
            ledger=ledger,
            policy=policy,
            files=InitFiles(state, log),
            readiness=readiness,
            metrics=metrics,
            clock=SystemClock(),
            rng=random.Random(1),
            log=log,
        )
        initialisation = Initialisation(parts)
        return Started(initialisation, readiness, initialisation._record, ledger, control_plane, metrics)

    return make
