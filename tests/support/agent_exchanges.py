"""An agent's exchanges at one end of a link in memory, and at the other a relay that opens streams."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from certs.spiffe import SpiffeId
from certs.tokens import TokenClaims, TokenVerifier
from certs.trust import TrustVerdict
from node_agent.api.admissions import Admissions
from node_agent.api.application import Apis, build_application
from node_agent.api.command_input import CommandInputApi
from node_agent.api.commands import CommandsApi
from node_agent.api.file_contents import FileContentsApi
from node_agent.api.files import FilesApi
from node_agent.api.health import HealthApi
from node_agent.api.init import InitApi
from node_agent.api.output_times import OutputTimesApi
from node_agent.api.policy import PolicyApi
from node_agent.api.secrets import SecretsApi
from node_agent.api.server import ApiServer
from node_agent.api.shells import ShellsApi
from node_agent.checks import Checks
from node_agent.commands.ledger import CommandLedger
from node_agent.commands.parameter_paths import ParameterPaths
from node_agent.exchanges.callers import Callers
from node_agent.exchanges.deadlines import Deadlines
from node_agent.exchanges.forwarder import Forwarder
from node_agent.exchanges.router import ExchangeRouter, RoutedTo
from node_agent.exchanges.shell_door import ShellDoor
from node_agent.exchanges.watch import CallerWatch
from node_agent.files.files import NodeFiles
from node_agent.init_scripts.readiness import Readiness
from node_agent.init_scripts.record import InitRecord, InitState, new_record
from node_agent.machine import Machine
from node_agent.metrics import AgentMetrics
from node_agent.policy_file import PolicySource
from node_agent.reports import Reports
from node_agent.secrets.held import HeldSecrets
from node_agent.shells.shells import Shells
from tests.support.identities import IdentityKit
from tests.support.memory_transport import memory_pair
from trunkline.channel.heads import parse_response_head
from trunkline.channel.link import Link, LinkStream, Role
from trunkline.channel.stream_transport import open_stream_pair
from trunkline.client.clock_offset import ClockOffset
from trunkline.runtime.clock import SystemClock
from trunkline.runtime.logs import Logger

HOST = "vm-1.finance.trunk.internal"


@dataclass
class Answer:
    status: int
    fields: dict[str, str]
    body: bytes


@dataclass
class Agent:
    """The real components, and the relay's end of the link."""

    kit: IdentityKit
    metrics: AgentMetrics
    watch: CallerWatch
    relay: Link
    link: Link
    held: HeldSecrets
    shells: Shells
    reports: Reports
    record: InitRecord
    init_asked: asyncio.Event
    notices: list[dict[str, Any]] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)

    def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return open_stream_pair(self.relay.open())

    async def exchange(self, raw: bytes) -> Answer:
        """Send a whole request, read the response to its end, and end the stream."""
        reader, writer = self.open()
        writer.write(raw)
        try:
            return parse_answer(raw, await reader.read())
        finally:
            writer.close()
            with contextlib.suppress(ConnectionResetError):
                await writer.wait_closed()

    async def call(
        self,
        method: str,
        path: str,
        *,
        token: str | None = "",
        body: bytes = b"",
        port: int | None = None,
        fields: tuple[str, ...] = (),
    ) -> Answer:
        token = self.kit.call_token() if token == "" else token
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {HOST}{'' if port is None else f':{port}'}",
            *([] if token is None else [f"Proxy-Authorization: Bearer {token}"]),
            *([f"Content-Length: {len(body)}"] if body else []),
            *fields,
            "Connection: close",
        ]
        return await self.exchange("\r\n".join([*lines, "", ""]).encode() + body)


def parse_answer(request: bytes, raw: bytes) -> Answer:
    head, separator, body = raw.partition(b"\r\n\r\n")
    parsed = parse_response_head(head + separator, request_method=request.split(b" ")[0])
    fields = {name.decode().lower(): value.decode() for name, value in parsed.fields}
    if fields.get("transfer-encoding") == "chunked":
        body = dechunk(body)
    return Answer(parsed.status, fields, body)


def dechunk(body: bytes) -> bytes:
    content = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if int(size, 16) == 0:
            return content
        content += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]


class _AgentEnd:
    def __init__(self) -> None:
        self.router: ExchangeRouter | None = None
        self.notices: list[dict[str, Any]] = []

    def stream_offered(self, stream: LinkStream) -> Any:
        assert self.router is not None
        return self.router.offered(stream, self.notices.append)

    def go_away_received(self, link: Link, code: int) -> None:
        pass

    def link_lost(self, link: Link, error: Any) -> None:
        pass


class _RelayEnd(_AgentEnd):
    def stream_offered(self, stream: LinkStream) -> Any:
        return None


@pytest.fixture
def kit(tmp_path) -> IdentityKit:
    return IdentityKit(tmp_path)


@pytest.fixture
async def agent(kit, ledger, policy, log, tmp_path, rng) -> AsyncIterator[Agent]:
    trust = AgentTrust(kit.node_spiffe_id(), kit.verifier())
    async with agent_in_memory(kit, trust, ledger, policy, log, tmp_path, rng) as made:
        yield made


@dataclass(frozen=True)
class AgentTrust:
    """Who the agent is, and whose tokens it believes."""

    node: SpiffeId
    verifier: TokenVerifier


@contextlib.asynccontextmanager
async def agent_in_memory(
    kit: IdentityKit,
    trust: AgentTrust,
    ledger: CommandLedger,
    policy: PolicySource,
    log: Logger,
    directory: Path,
    rng: random.Random,
    *,
    head_seconds: float = 30.0,
) -> AsyncIterator[Agent]:
    """The real components around a ledger that is open, and a link to them in memory."""
    loop = asyncio.get_running_loop()
    metrics = AgentMetrics(CollectorRegistry())
    clock = SystemClock()
    watch = CallerWatch()
    revoked: set[str] = set()
    held = HeldSecrets()
    refused: list[str] = []

    def judge(claims: TokenClaims) -> TrustVerdict | None:
        return TrustVerdict(False, "token", claims.token_id) if claims.token_id in revoked else None

    lingering: Deadlines[LinkStream] = Deadlines(30.0, LinkStream.reset, loop)
    checks = Checks(policy, rng, log)
    machine, offset = Machine(directory, clock), ClockOffset(clock)
    record = new_record("nd-one", InitState.READY)
    readiness, asked = Readiness(), asyncio.Event()
    readiness.follow(record)
    health = HealthApi("nd-one", machine, checks, ledger, offset, lambda: 7, dict, metrics.registry, readiness)
    callers = Callers(trust.node, trust.verifier, judge, clock)
    paths = ParameterPaths(policy)
    reports = Reports(metrics, clock)
    commands = CommandsApi(ledger, paths, Admissions(metrics, reports), readiness, stall_seconds=30)
    shells = Shells(policy, watch, metrics, reports, clock, log, unready=readiness.refusal)
    following = CommandInputApi(ledger, stall_seconds=30)
    files = NodeFiles(policy, (metrics, reports), log, unready=readiness.refusal)
    contents = FileContentsApi(files, stall_seconds=30)
    apis = Apis(
        health, commands, following, OutputTimesApi(ledger), SecretsApi(held), PolicyApi(policy), ShellsApi(shells),
        InitApi(asked.set), FilesApi(files), contents,
    )  # fmt: skip
    app = build_application(apis, watch, callers.stale, request_seconds=30)
    forwarder = Forwarder(
        policy,
        own_ports=frozenset({9465}),
        connect_seconds=30,
        stall_seconds=30,
        max_forwarded=100,
        lingering=lingering,
        metrics=metrics,
        watch=watch,
        loop=loop,
    )
    async with ApiServer(app) as api:
        router = ExchangeRouter(
            callers,
            RoutedTo(api, ShellDoor(shells, lingering, loop), forwarder),
            lingering,
            metrics,
            refused=refused.append,
            head_seconds=head_seconds,
            loop=loop,
        )
        agent_end, relay_end = _AgentEnd(), _RelayEnd()
        agent_end.router = router
        link = Link(Role.SERVER, agent_end, loop=loop)
        relay = Link(Role.CLIENT, relay_end, loop=loop)
        here, there = memory_pair(loop)
        here.start(link)
        there.start(relay)
        yield Agent(
            kit, metrics, watch, relay, link, held, shells, reports, record, asked, agent_end.notices, revoked, refused
        )
        await shells.stop()
        await files.stop()
        relay.close()
        link.close()
        await asyncio.wait([relay.closed, link.closed])
        router.close()
        paths.close()
        forwarder.close()
        lingering.close()
