"""Puts together what answers calls: the agent's API, the door of shells, and the way to the node's own services."""

import asyncio
from contextlib import AsyncExitStack

from certs.spiffe import SpiffeId
from certs.tokens import TokenVerifier
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
from node_agent.commands.parameter_paths import ParameterPaths
from node_agent.composition.foundation import Foundation
from node_agent.composition.work import Work
from node_agent.exchanges.callers import Callers
from node_agent.exchanges.deadlines import Deadlines
from node_agent.exchanges.forwarder import Forwarder
from node_agent.exchanges.router import ExchangeRouter, RoutedTo
from node_agent.exchanges.shell_door import ShellDoor
from node_agent.exchanges.watch import CallerWatch
from node_agent.identity.node_identity import NodeIdentity
from node_agent.identity.rotation_watch import RotationWatch
from node_agent.init_scripts.readiness import Readiness
from node_agent.reports import Reports
from trunkline.channel.link import LinkStream

TOKEN_CACHE_ENTRIES = 1024
LINGERING_SECONDS = 30.0


async def compose_router(
    foundation: Foundation,
    node: NodeIdentity,
    work: Work,
    rotation: RotationWatch,
    watch: CallerWatch,
    reports: Reports,
    own_ports: frozenset[int],
    stack: AsyncExitStack,
) -> ExchangeRouter:
    """Build what takes each stream to what answers it; `stack` closes it. No stream reaches a port of `own_ports`."""
    loop, bounds = asyncio.get_running_loop(), foundation.settings.exchanges
    lingering: Deadlines[LinkStream] = Deadlines(LINGERING_SECONDS, LinkStream.reset, loop)
    stack.callback(lingering.close)
    forwarder = _forwarder(foundation, own_ports, lingering, watch, loop)
    stack.callback(forwarder.close)
    callers = _callers(foundation, node.spiffe_id)
    apis = _apis(foundation, node, work, rotation, reports, stack)
    app = build_application(apis, watch, callers.stale, request_seconds=bounds.request_seconds)
    api = await stack.enter_async_context(ApiServer(app))
    router = ExchangeRouter(
        callers,
        RoutedTo(api, ShellDoor(work.shells, lingering, loop), forwarder),
        lingering,
        foundation.metrics,
        refused=reports.refused,
        head_seconds=bounds.head_seconds,
        loop=loop,
    )
    stack.callback(router.close)
    return router


def _forwarder(
    foundation: Foundation,
    own_ports: frozenset[int],
    lingering: Deadlines[LinkStream],
    watch: CallerWatch,
    loop: asyncio.AbstractEventLoop,
) -> Forwarder:
    bounds = foundation.settings.exchanges
    return Forwarder(
        foundation.policy,
        own_ports=own_ports,
        connect_seconds=bounds.connect_seconds,
        stall_seconds=bounds.stall_seconds,
        max_forwarded=bounds.max_forwarded,
        lingering=lingering,
        metrics=foundation.metrics,
        watch=watch,
        loop=loop,
    )


def _callers(foundation: Foundation, spiffe_id: SpiffeId) -> Callers:
    trust = foundation.enrolment.trust
    verifier = TokenVerifier(trust.store.keyring, spiffe_id.trust_domain, TOKEN_CACHE_ENTRIES)
    return Callers(spiffe_id, verifier, trust.verdict, foundation.clock)


def _apis(
    foundation: Foundation,
    node: NodeIdentity,
    work: Work,
    rotation: RotationWatch,
    reports: Reports,
    stack: AsyncExitStack,
) -> Apis:
    ledger, stall_seconds = foundation.ledger, foundation.settings.exchanges.stall_seconds
    paths = ParameterPaths(foundation.policy)
    stack.callback(paths.close)
    admissions = Admissions(foundation.metrics, reports)
    return Apis(
        health=_health(foundation, node, work.readiness, rotation),
        commands=CommandsApi(ledger, paths, admissions, work.readiness, stall_seconds=stall_seconds),
        command_input=CommandInputApi(ledger, stall_seconds=stall_seconds),
        output_times=OutputTimesApi(ledger),
        secrets=SecretsApi(foundation.secrets.held),
        policy=PolicyApi(foundation.policy),
        shells=ShellsApi(work.shells),
        init=InitApi(work.initialisation.ask),
        files=FilesApi(work.files),
        file_contents=FileContentsApi(work.files, stall_seconds=stall_seconds),
    )


def _health(foundation: Foundation, node: NodeIdentity, readiness: Readiness, rotation: RotationWatch) -> HealthApi:
    trust, block = foundation.enrolment.trust, foundation.metadata_block
    return HealthApi(
        node.node_id,
        foundation.machine,
        foundation.checks,
        foundation.ledger,
        foundation.clock_offset,
        lambda: trust.sequence,
        lambda: {**rotation.standing(), "metadata_block": block.standing.document()},
        foundation.registry,
        readiness,
    )
