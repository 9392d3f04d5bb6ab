"""Bringing a sandbox up: all processes load together and start in turn, with settings that follow from each other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

from trunkline.client.control_plane import ControlPlane
from trunkline.client.records.nodes import Node
from trunkline.runtime.files import write_atomic
from trunkline.sandbox.child import EMULATOR
from trunkline.sandbox.daemon import Endpoints, SandboxFailed, SandboxProcess
from trunkline.sandbox.emulated_machines import AWS_ACCOUNT, GCP_PROJECT, SUBSCRIPTION
from trunkline.sandbox.member import Member
from trunkline.sandbox.plan import SandboxPlan
from trunkline.sandbox.settings_files import (
    HOST,
    Ports,
    ca_file,
    operator_token_file,
    relay_name,
    write_agent_settings,
    write_control_plane_settings,
    write_policy,
    write_relay_settings,
)

ACCOUNTS = {"azure": SUBSCRIPTION, "aws": AWS_ACCOUNT, "gcp": GCP_PROJECT}
ONLINE_SECONDS = 60.0
RELAY_TOKEN_SECONDS = 3_600
_POLL_SECONDS = 0.05


class BringUp:
    """Starts the processes of a plan.

    Attributes:
        members: the processes, by role.
        control_plane_url: where the control plane is, once it has been started.
    """

    def __init__(self, plan: SandboxPlan) -> None:
        self._plan = plan
        self._layout = plan.layout
        self._known_ports = _read_ports(plan)
        self.control_plane_url = ""
        self.members = {
            "identity_emulator": self._emulator(),
            "control_plane": self._daemon("control_plane", "control-plane", self._write_control_plane_settings),
            **{role: self._relay(role) for role in plan.relays},
            **{node: self._agent(node) for node in plan.nodes},
        }

    async def run(self) -> list[Node]:
        """Start everything and wait until every node is online.

        Returns:
            The nodes, in the plan's order.

        Raises:
            SandboxFailed: a process did not become ready, or a node did not come online.
            TrunklineError: the control plane refused what the sandbox needs.
        """
        await asyncio.gather(*(member.process.load() for member in self.members.values()))
        await self._start("identity_emulator")
        endpoints = await self._start("control_plane")
        self.control_plane_url = f"https://{HOST}:{endpoints.ports.service}"
        async with self.control_plane() as control_plane:
            await control_plane.account.create_workspace(self._plan.workspace)
            await self._admit_machines(control_plane)
            for role in self._plan.relays:
                await self._admit_relay(control_plane, role)
            await asyncio.gather(*(self._start(role) for role in self._plan.relays))
            await asyncio.gather(*(self._start(node) for node in self._plan.nodes))
            self._write_ports()
            return await self._wait_until_online(control_plane)

    def control_plane(self) -> ControlPlane:
        """A client with the operator's token."""
        token = operator_token_file(self._layout).read_text(encoding="ascii").strip()
        return ControlPlane(self.control_plane_url, token, ca_file=ca_file(self._layout))

    async def _start(self, role: str) -> Endpoints:
        return await self.members[role].start(self._known_ports.get(role, Ports()))

    async def _admit_machines(self, control_plane: ControlPlane) -> None:
        platform = self._plan.platform
        policies = control_plane.workspace(self._plan.workspace).join_policies
        await policies.create(f"sandbox-{platform}", platform, {"accounts": [ACCOUNTS[platform]]})

    async def _admit_relay(self, control_plane: ControlPlane, role: str) -> None:
        join_token = await control_plane.account.create_relay_join_token(
            relay_name(role), [HOST], lifetime_seconds=RELAY_TOKEN_SECONDS
        )
        write_atomic(self._layout.relay(role) / "join-token", join_token.join_token.encode("ascii"))

    def _emulator(self) -> Member:
        directory = self._layout.identity
        process = self._process(EMULATOR, [EMULATOR, str(directory), *self._plan.nodes], directory)
        return Member("identity_emulator", process, lambda ports: None)

    def _agent(self, node: str) -> Member:
        def write(ports: Ports) -> None:
            write_policy(self._layout, node, list(self._plan.ports))
            write_agent_settings(
                self._layout,
                node,
                ports,
                control_plane_url=self.control_plane_url,
                metadata_url=self._emulated().further["metadata_url"],
                authority_url=self._emulated().url or "",
                platform=self._plan.platform,
            )

        return self._daemon(node, "node-agent", write, place=f"nodes/{node}")

    def _daemon(self, role: str, daemon: str, write: Callable[[Ports], None], *, place: str = "") -> Member:
        directory = self._layout.root / (place or daemon)
        arguments = [daemon, "--config", str(directory / "config.toml")]
        return Member(role, self._process(directory.name, arguments, directory / "state"), write)

    def _process(self, name: str, arguments: list[str], state_directory: Path) -> SandboxProcess:
        log_file = self._layout.log_file(name)
        return SandboxProcess(name, arguments, state_directory=state_directory, log_file=log_file)

    def _write_control_plane_settings(self, ports: Ports) -> None:
        write_control_plane_settings(
            self._layout,
            ports,
            authority_url=self._emulated().url or "",
            metadata_url=self._emulated().further["metadata_url"],
            name_suffix=self._plan.name_suffix,
        )

    def _relay(self, role: str) -> Member:
        def write(ports: Ports) -> None:
            write_relay_settings(
                self._layout, role, ports, control_plane_url=self.control_plane_url, name_suffix=self._plan.name_suffix
            )

        return self._daemon(role, "relay", write, place=role)

    def _emulated(self) -> Endpoints:
        endpoints = self.members["identity_emulator"].endpoints
        if endpoints is None:
            raise SandboxFailed("the identity emulator has not been started")
        return endpoints

    async def _wait_until_online(self, control_plane: ControlPlane) -> list[Node]:
        workspace = control_plane.workspace(self._plan.workspace)
        states: dict[str, str] = {}
        try:
            async with asyncio.timeout(ONLINE_SECONDS):
                while True:
                    found = {node.node: node async for node in workspace.list_nodes()}
                    states = {name: found[name].state if name in found else "missing" for name in self._plan.nodes}
                    if all(state == "online" for state in states.values()):
                        return [found[name] for name in self._plan.nodes]
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            seen = ", ".join(f"{name} {state}" for name, state in states.items())
            raise SandboxFailed(
                f"the nodes did not come online within {ONLINE_SECONDS:g} s ({seen}); see {self._layout.log_directory}"
            ) from None

    def _write_ports(self) -> None:
        ports = {
            role: [member.endpoints.ports.service, member.endpoints.ports.admin]
            for role, member in self.members.items()
            if member.endpoints is not None
        }
        write_atomic(self._layout.ports_file, json.dumps(ports).encode())


def _read_ports(plan: SandboxPlan) -> dict[str, Ports]:
    """The ports of the last time, so that whoever remembers the sandbox's addresses finds it again."""
    try:
        document = json.loads(plan.layout.ports_file.read_bytes())
        return {role: Ports(int(service), int(admin)) for role, (service, admin) in document.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
