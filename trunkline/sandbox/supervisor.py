"""The supervisor: it brings a sandbox up, keeps its processes running, and stops them all.

Theory of operation. Once everything is up, one task a process waits for its end and starts it again, on the same ports
and with back-off; `sandbox.json` always says which processes there are now. Everything ends with the supervisor: on
SIGTERM and SIGINT each daemon drains; when the supervisor is killed, by the kernel (see `processes`). Commands outlive
the agent that started them: their own supervisors are adopted when it ends, and end with the sandbox.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Callable

from trunkline.client.records.nodes import Node
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import SystemClock
from trunkline.sandbox.bring_up import BringUp
from trunkline.sandbox.daemon import SandboxFailed
from trunkline.sandbox.description import SandboxDescription, SandboxNode
from trunkline.sandbox.member import Member
from trunkline.sandbox.plan import SandboxPlan
from trunkline.sandbox.processes import adopt_orphans, children, reap_adopted, send
from trunkline.sandbox.settings_files import ca_file, operator_token_file

STEADY_SECONDS = 10.0
_ORPHAN_SECONDS = 2.0
_POLL_SECONDS = 0.05


class Supervisor:
    """Runs one sandbox in this process."""

    def __init__(self, plan: SandboxPlan, tell: Callable[[str], None]) -> None:
        """Prepare a sandbox.

        Args:
            plan: what it is to be.
            tell: is given lines about processes that ended and were started again.
        """
        self._plan = plan
        self._tell = tell
        self._bring_up = BringUp(plan)
        self._nodes: list[Node] = []
        self._stop = asyncio.Event()
        self._clock = SystemClock()

    async def run(self, ready: Callable[[SandboxDescription], None]) -> None:
        """Bring the sandbox up, call `ready`, keep it running until SIGINT or SIGTERM, and stop it.

        Raises:
            SandboxFailed: it did not come up; what had started was stopped again.
            TrunklineError: the control plane refused what the sandbox needs.
        """
        adopt_orphans()
        self._take_signals()
        try:
            if await self._brought_up():
                description = self._describe()
                description.write(self._plan.layout.description_file)
                ready(description)
                await self._keep_running()
        finally:
            await self._stop_everything()

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGCHLD, self._reap)

    async def _brought_up(self) -> bool:
        """Bring it up, or give up when asked to stop meanwhile."""
        coming = asyncio.ensure_future(self._bring_up.run())
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({coming, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not coming.done():
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
            return False
        self._nodes = coming.result()
        return True

    async def _keep_running(self) -> None:
        keepers = [asyncio.ensure_future(self._keep(member)) for member in self._bring_up.members.values()]
        try:
            await self._stop.wait()
        finally:
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)

    async def _keep(self, member: Member) -> None:
        backoff = Backoff(random.SystemRandom(), cap_seconds=5.0)
        while True:
            started_at = self._clock.monotonic()
            await member.process.ended()
            now = self._clock.monotonic()
            if now - started_at >= STEADY_SECONDS:
                backoff.reset()
            self._tell(f"{member.process.name} ended, and is started again")
            await asyncio.sleep(backoff.next_delay_seconds(now))
            await member.process.start()
            self._describe().write(self._plan.layout.description_file)
            try:
                await member.wait_until_ready()
            except SandboxFailed as failure:
                self._tell(str(failure))
            self._describe().write(self._plan.layout.description_file)

    async def _stop_everything(self) -> None:
        with contextlib.suppress(OSError):
            self._plan.layout.description_file.unlink(missing_ok=True)
        members = self._bring_up.members
        last = [members["control_plane"], members["identity_emulator"]]  # the relay's last reports go there
        first = [member for member in members.values() if member not in last]
        for together in (first, last):
            await asyncio.gather(*(member.process.stop() for member in together))
        await self._stop_orphans()

    async def _stop_orphans(self) -> None:
        """End what was left behind by processes that have ended: SIGTERM twice, which is *at once*, then SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            told: set[int] = set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ORPHAN_SECONDS):
                    while left := children():
                        for pid in left - told:  # whoever is killed may leave others to be adopted
                            send(pid, number)
                        told |= left
                        self._reap()
                        await asyncio.sleep(_POLL_SECONDS)

    def _reap(self) -> None:
        """Collect adopted processes that have ended; while one of ours is being made, its id is not known: later."""
        processes = [member.process for member in self._bring_up.members.values()]
        if not any(process.starting for process in processes):
            reap_adopted({process.pid for process in processes})

    def _describe(self) -> SandboxDescription:
        members = self._bring_up.members
        agents = [members[name] for name in self._plan.nodes]
        layout, relays = self._plan.layout, self._plan.relays
        relay_urls = [f"https://localhost:{_service_port(members[role])}" for role in relays]
        return SandboxDescription(
            control_plane_url=self._bring_up.control_plane_url,
            relay_url=relay_urls[0],
            ca_file=str(ca_file(layout)),
            workspace=self._plan.workspace,
            admin_token_file=str(operator_token_file(layout)),
            pids={
                "supervisor": os.getpid(),
                **{role: members[role].process.pid for role in ("control_plane", *relays, "identity_emulator")},
                "node_agent": [agent.process.pid for agent in agents],
            },
            admin_urls={
                **{role: _admin_url(members[role]) for role in ("control_plane", *relays)},
                "node_agent": [_admin_url(agent) for agent in agents],
            },
            nodes=[
                SandboxNode(node.node, node.node_id, node.host or "", agent.process.pid)
                for node, agent in zip(self._nodes, agents, strict=True)
            ],
            relay_urls=relay_urls,
        )


def _service_port(member: Member) -> int:
    return member.endpoints.ports.service if member.endpoints is not None else 0


def _admin_url(member: Member) -> str:
    return (member.endpoints.admin_url or "") if member.endpoints is not None else ""
