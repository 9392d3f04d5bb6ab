"""A control plane whose fleet runs, with one relay in memory and one agent behind it, for tests of commands."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from control_plane.settings import ControlPlaneSettings
from tests.support.canned_relay import CannedRelay
from tests.support.control_planes import RunningControlPlane, lay_down, running_control_plane, settings_for
from tests.support.fake_agent import FakeAgent

PATH = "/w/finance/api/2.0/commands"
HOST = "vm-1.finance.trunk.internal"


IMPATIENT: dict[str, Any] = {"call_timeout_seconds": 0.5, "refresh_timeout_seconds": 0.4}
"""Settings for a node that does not answer; one that does is given the time that a slow machine needs."""


def quick(directory: Path, **commands: Any) -> ControlPlaneSettings:
    return settings_for(
        directory,
        commands={"delivery_seconds": 20, "call_timeout_seconds": 20.0, "refresh_timeout_seconds": 20.0, **commands},
        health={"interval_seconds": 60.0, "timeout_seconds": 20.0},
    )


class Stage:
    """A control plane whose fleet runs, with one relay in memory and one agent behind it."""

    def __init__(self, plane: RunningControlPlane, agent: FakeAgent, relay: CannedRelay) -> None:
        self.plane = plane
        self.agent = agent
        self.relay = relay

    async def submit(self, **fields: Any) -> dict[str, Any]:
        body = {"command_id": "c-1", "target": {"node": "vm-1"}, "argv": ["uname", "-a"], **fields}
        [command] = (await self.plane.ok("POST", PATH, body))["commands"]
        return dict(command)

    async def until(self, state: str, command_id: str = "c-1", seconds: float = 30.0) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while True:
            found = await self.plane.ok("GET", f"{PATH}/{command_id}")
            if found["state"] == state:
                return found
            assert time.monotonic() < end, found
            await asyncio.sleep(0.02)

    async def read(self, query: str = "", command_id: str = "c-1") -> bytes:
        """The output of a command, whole."""
        async with self.open_output(query, command_id) as response:
            assert response.status == 200, await response.text()
            return bytes(await response.read())

    def open_output(self, query: str = "", command_id: str = "c-1") -> Any:
        headers = {"Authorization": f"Bearer {self.plane.operator_token}"}
        return self.plane.session().get(f"{self.plane.url}{PATH}/{command_id}/output{query}", headers=headers)


@asynccontextmanager
async def command_stage(directory: Path, agent: FakeAgent | None = None, **commands: Any) -> AsyncIterator[Stage]:
    """A stage with the node `vm-1`; `commands` are settings of the section of that name.

    With the `agent` of a stage in the same directory, it is that one's control plane, started again.
    """
    agent = agent or FakeAgent()
    relay = agent.relay()
    settings = quick(directory, **commands)
    await lay_down(directory, settings, "control-plane-with-a-node", _enrol)
    async with running_control_plane(directory, settings=settings, dial=relay.dial, fleet=True) as plane:
        agent.verifier = await plane.verifier()
        yield Stage(plane, agent, relay)
        agent.hold.set()
    await relay.close()


async def _enrol(plane: RunningControlPlane) -> None:
    await plane.relay()
    await plane.node("vm-1", labels={"role": "web"})
