"""The agent put together by hand, in the order in which its parts depend on each other."""

import asyncio
import hashlib
import os
import random
import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from certs.errors import KeyFileError
from certs.identities import Identity
from certs.tls import TlsContext, client_context
from certs.tokens import TokenVerifier
from node_agent.api.admissions import Admissions
from node_agent.api.application import Apis, ApiServer, build_application
from node_agent.api.command_input import CommandInputApi
from node_agent.api.commands import CommandsApi
from node_agent.api.file_contents import FileContentsApi
from node_agent.api.files import FilesApi
from node_agent.api.health import HealthApi
from node_agent.api.init import InitApi
from node_agent.api.output_times import OutputTimesApi
from node_agent.api.policy import PolicyApi
from node_agent.api.secrets import SecretsApi
from node_agent.api.shells import ShellsApi
from node_agent.checks import Checks
from node_agent.commands.ledger import CommandBounds, CommandLedger
from node_agent.commands.parameter_paths import ParameterPaths
from node_agent.commands.records import CommandStore
from node_agent.commands.retention import RetentionBounds
from node_agent.establishing import Enrolment, ProxyFor
from node_agent.exchanges.callers import Callers
from node_agent.exchanges.deadlines import Deadlines
from node_agent.exchanges.forwarder import Forwarder
from node_agent.exchanges.router import ExchangeRouter, RoutedTo
from node_agent.exchanges.shell_door import ShellDoor
from node_agent.exchanges.watch import CallerWatch
from node_agent.files.files import NodeFiles
from node_agent.identity.credentials import Credentials, token_lifespan
from node_agent.identity.node_identity import NodeIdentity
from node_agent.identity.renewal import Renewal
from node_agent.identity.rotation_watch import RotationWatch
from node_agent.identity.succession import Prove
from node_agent.identity.trust_hand_over import TrustHandOver
from node_agent.identity.trust_watch import TrustWatch
from node_agent.init_scripts.initialisation import Initialisation, InitParts
from node_agent.init_scripts.readiness import Readiness
from node_agent.init_scripts.record import InitFiles
from node_agent.links.dialer import Dialer, DialOptions
from node_agent.links.network_watch import NetworkWatch
from node_agent.links.relay_links import RelayLinks
from node_agent.machine import Machine
from node_agent.metrics import AgentMetrics
from node_agent.policy import Narrowing
from node_agent.policy_file import PolicySource
from node_agent.protection.firewall import Tool
from node_agent.protection.iptables import Iptables
from node_agent.protection.metadata_block import MetadataBlock
from node_agent.protection.nftables import Nftables
from node_agent.report_sender import ReportSender
from node_agent.reports import Reports
from node_agent.secrets.held import HeldSecrets
from node_agent.secrets.keeper import SecretKeeper
from node_agent.secrets.memory_files import MemoryFiles, candidates_for
from node_agent.secrets.provision import SecretProvision
from node_agent.secrets.uses import UseLog
from node_agent.settings import AgentSettings
from node_agent.shells.shells import Shells
from trunkline.channel.link import LinkStream
from trunkline.client.clock_offset import ClockOffset
from trunkline.runtime.clock import Clock
from trunkline.runtime.files import StateDirectoryError
from trunkline.runtime.lifecycle import Condition
from trunkline.runtime.logs import get_logger

COMMANDS_DIRECTORY = "commands"
TOKEN_CACHE_ENTRIES = 1024
LINGERING_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Secrets:
    """The workspace's secrets on this node, what is done with them, and how commands get at them."""

    held: HeldSecrets
    uses: UseLog
    provision: SecretProvision


@dataclass(frozen=True, slots=True)
class Foundation:
    """What there is before the node knows who it is."""

    settings: AgentSettings
    registry: CollectorRegistry
    metrics: AgentMetrics
    machine: Machine
    policy: PolicySource
    metadata_block: MetadataBlock
    secrets: Secrets
    ledger: CommandLedger
    checks: Checks
    enrolment: Enrolment
    proxy_for: ProxyFor
    clock_offset: ClockOffset
    clock: Clock
    rng: random.Random


@dataclass(frozen=True, slots=True)
class Serving:
    """What runs once the node knows who it is."""

    links: RelayLinks
    renewal: Renewal
    credentials: Credentials
    secrets: SecretKeeper
    report_sender: ReportSender
    hand_over: TrustHandOver
    trust_watch: TrustWatch
    shells: Shells
    initialisation: Initialisation


def secret_provision(settings: AgentSettings, policy: PolicySource, metrics: AgentMetrics, clock: Clock) -> Secrets:
    """Build what holds secrets and gives them to commands; nothing is held yet."""
    log = get_logger("node_agent.secrets")
    held, uses = HeldSecrets(), UseLog()
    provision = SecretProvision(
        held=held,
        files=MemoryFiles(candidates_for(settings.secrets.directory, settings.state_directory), log),
        uses=uses,
        policy=policy,
        meter=metrics,
        clock=clock,
        wait_seconds=settings.secrets.wait_seconds,
    )
    return Secrets(held, uses, provision)


def metadata_block(settings: AgentSettings, policy: PolicySource, metrics: AgentMetrics) -> MetadataBlock:
    """Build what keeps commands from the metadata service; its rules are named after the state directory."""
    digest = hashlib.sha256(os.fsencode(settings.state_directory.resolve())).hexdigest()[:12]
    firewalls = (Nftables(Tool(), f"trunkline_{digest}"), Iptables(Tool(), f"TRUNKLINE-{digest}"))
    return MetadataBlock(policy, firewalls, metrics, get_logger("node_agent.protection"))


def command_ledger(
    settings: AgentSettings,
    policy: PolicySource,
    metrics: AgentMetrics,
    directory: Path,
    clock: Clock,
    secrets: SecretProvision,
    metadata_block: MetadataBlock,
) -> CommandLedger:
    """Build the ledger of commands."""
    asked = settings.commands
    bounds = CommandBounds(
        grace_seconds=asked.grace_seconds,
        outlive_agent=asked.outlive_agent,
        retention=RetentionBounds(asked.retention_seconds, asked.retained_commands, asked.retained_output_bytes),
    )
    store = CommandStore(directory / COMMANDS_DIRECTORY)
    log, kept_from_metadata = get_logger("node_agent.commands"), metadata_block.blocked_users
    ledger = CommandLedger(store, policy, bounds, metrics, clock, log, secrets, kept_from_metadata)
    metrics.running_commands.set_function(lambda: float(ledger.counts()[0]))
    metrics.queued_commands.set_function(lambda: float(ledger.counts()[1]))
    return ledger


async def compose(
    foundation: Foundation, node: NodeIdentity, ready: Condition, own_ports: frozenset[int], stack: AsyncExitStack
) -> Serving:
    """Build what serves this node; `stack` closes it. Nothing is dialled yet."""
    credentials = Credentials(node, foundation.enrolment.store)
    watch = CallerWatch()
    reports = Reports(foundation.metrics, foundation.clock)

    async def prove(heir: NodeIdentity) -> bool:
        return await links.prove(heir)

    renewal = _renewal(foundation, credentials, prove)
    rotation = _rotation_watch(foundation, credentials, renewal)
    stack.callback(rotation.close)
    readiness = Readiness()
    initialisation = _initialisation(foundation, credentials, readiness)
    init = (InitApi(initialisation.ask), readiness)
    shells = _shells(foundation, watch, reports, readiness)
    stack.push_async_callback(shells.stop)
    files = _files(foundation, reports, readiness)
    stack.push_async_callback(files.stop)
    router = await _router(foundation, node, watch, reports, rotation, init, own_ports, (shells, files), stack)
    links = _links(foundation, credentials, router, ready, renewal)
    _follow_trust(foundation, watch, links, reports)
    _follow_relays(foundation, credentials, links)
    _follow_identity(foundation, credentials)
    credentials.subscribe(links.identity_changed)
    foundation.metrics.open_exchanges.set_function(lambda: float(len(watch)))
    stack.push_async_callback(links.close)
    network = NetworkWatch(links.network_changed, get_logger("node_agent.links"))
    stack.callback(network.close)
    network.start()
    rotation.look()
    sender, hand_over = _upwards(foundation, credentials, reports)
    keeper = _keeper(foundation, credentials)
    trust_watch = _trust_watch(foundation, links)
    return Serving(links, renewal, credentials, keeper, sender, hand_over, trust_watch, shells, initialisation)


def _shells(foundation: Foundation, watch: CallerWatch, reports: Reports, readiness: Readiness) -> Shells:
    metrics, log = foundation.metrics, get_logger("node_agent.shells")
    shells = Shells(
        foundation.policy,
        watch,
        metrics,
        reports,
        foundation.clock,
        log,
        kept_from_metadata=foundation.metadata_block.blocked_users,
        unready=readiness.refusal,
    )
    metrics.shells_running.set_function(lambda: float(shells.running))
    return shells


def _files(foundation: Foundation, reports: Reports, readiness: Readiness) -> NodeFiles:
    listeners, log = (foundation.metrics, reports), get_logger("node_agent.files")
    files = NodeFiles(foundation.policy, listeners, log, unready=readiness.refusal)
    foundation.metrics.files_running.set_function(lambda: float(files.running))
    return files


async def _router(
    foundation: Foundation,
    node: NodeIdentity,
    watch: CallerWatch,
    reports: Reports,
    rotation: RotationWatch,
    init: tuple[InitApi, Readiness],
    own_ports: frozenset[int],
    interactive: tuple[Shells, NodeFiles],
    stack: AsyncExitStack,
) -> ExchangeRouter:
    shells, files = interactive
    loop, bounds, trust = asyncio.get_running_loop(), foundation.settings.exchanges, foundation.enrolment.trust
    spiffe_id = node.spiffe_id
    lingering: Deadlines[LinkStream] = Deadlines(LINGERING_SECONDS, LinkStream.reset, loop)
    stack.callback(lingering.close)
    forwarder = Forwarder(
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
    stack.callback(forwarder.close)
    health = HealthApi(
        node.node_id,
        foundation.machine,
        foundation.checks,
        foundation.ledger,
        foundation.clock_offset,
        lambda: trust.sequence,
        lambda: {**rotation.standing(), "metadata_block": foundation.metadata_block.standing.document()},
        foundation.registry,
        init[1],
    )
    paths = ParameterPaths(foundation.policy)
    stack.callback(paths.close)
    admissions = Admissions(foundation.metrics, reports)
    commands = CommandsApi(foundation.ledger, paths, admissions, init[1], stall_seconds=bounds.stall_seconds)
    verifier = TokenVerifier(trust.store.keyring, spiffe_id.trust_domain, TOKEN_CACHE_ENTRIES)
    callers = Callers(spiffe_id, verifier, trust.verdict, foundation.clock)
    following = CommandInputApi(foundation.ledger, stall_seconds=bounds.stall_seconds)
    apis = Apis(
        health=health,
        commands=commands,
        command_input=following,
        output_times=OutputTimesApi(foundation.ledger),
        secrets=SecretsApi(foundation.secrets.held),
        policy=PolicyApi(foundation.policy),
        shells=ShellsApi(shells),
        init=init[0],
        files=FilesApi(files),
        file_contents=FileContentsApi(files, stall_seconds=bounds.stall_seconds),
    )
    app = build_application(apis, watch, callers.stale, request_seconds=bounds.request_seconds)
    api = await stack.enter_async_context(ApiServer(app))
    router = ExchangeRouter(
        callers,
        RoutedTo(api, ShellDoor(shells, lingering, loop), forwarder),
        lingering,
        foundation.metrics,
        refused=reports.refused,
        head_seconds=bounds.head_seconds,
        loop=loop,
    )
    stack.callback(router.close)
    return router


def _initialisation(foundation: Foundation, credentials: Credentials, readiness: Readiness) -> Initialisation:
    """Build what initialises the node.

    Raises:
        StateDirectoryError: its record cannot be read.
    """
    log = get_logger("node_agent.init")
    parts = InitParts(
        control_plane=foundation.enrolment.control_plane,
        credentials=credentials,
        ledger=foundation.ledger,
        policy=foundation.policy,
        files=InitFiles(foundation.settings.state_directory, log),
        readiness=readiness,
        metrics=foundation.metrics,
        clock=foundation.clock,
        rng=foundation.rng,
        log=log,
    )
    try:
        return Initialisation(parts)
    except KeyFileError as error:
        raise StateDirectoryError(str(error)) from None


def _keeper(foundation: Foundation, credentials: Credentials) -> SecretKeeper:
    return SecretKeeper(
        control_plane=foundation.enrolment.control_plane,
        credentials=credentials,
        held=foundation.secrets.held,
        uses=foundation.secrets.uses,
        policy=foundation.policy,
        directory=foundation.settings.state_directory,
        metrics=foundation.metrics,
        clock=foundation.clock,
        rng=foundation.rng,
        log=get_logger("node_agent.secrets"),
    )


def _renewal(foundation: Foundation, credentials: Credentials, prove: Prove) -> Renewal:
    enrolment = foundation.enrolment
    return Renewal(
        control_plane=enrolment.control_plane,
        credentials=credentials,
        trust=enrolment.trust,
        succession=enrolment.succession,
        returning=enrolment.returning,
        prove=prove,
        metrics=foundation.metrics,
        clock=foundation.clock,
        rng=foundation.rng,
        log=get_logger("node_agent.identity"),
    )


def _rotation_watch(foundation: Foundation, credentials: Credentials, renewal: Renewal) -> RotationWatch:
    return RotationWatch(
        credentials=credentials,
        trust=foundation.enrolment.trust,
        renew_certificate=renewal.ask_for_certificate,
        renew_token=renewal.ask_for_token,
        rng=foundation.rng,
        log=get_logger("node_agent.identity"),
    )


def _links(
    foundation: Foundation, credentials: Credentials, router: ExchangeRouter, ready: Condition, renewal: Renewal
) -> RelayLinks:
    settings, trust = foundation.settings.links, foundation.enrolment.trust

    def relay_tls(identity: Identity) -> TlsContext:
        roots = trust.store.keyring.roots if settings.server_roots == "trust_document" else None
        return client_context(roots, identity=identity)

    dialer = Dialer(
        credentials,
        relay_tls,
        foundation.proxy_for,
        client_context,
        DialOptions(settings.carrier, settings.dial_seconds, settings.keepalive_seconds, settings.max_streams),
        trust.certificate_verdict,
    )
    return RelayLinks(
        dialer=dialer,
        offer=router.offered,
        take_trust=trust.offer,
        ask_for_token=renewal.ask_for_token,
        urgent=lambda: foundation.ledger.counts()[0] > 0,
        settings=settings,
        ready=ready,
        metrics=foundation.metrics,
        clock=foundation.clock,
        rng=foundation.rng,
        log=get_logger("node_agent.links"),
    )


def _upwards(foundation: Foundation, credentials: Credentials, reports: Reports) -> tuple[ReportSender, TrustHandOver]:
    """Build what the agent tells the control plane of its own accord."""
    enrolment, rng = foundation.enrolment, foundation.rng
    sender = ReportSender(
        control_plane=enrolment.control_plane,
        credentials=credentials,
        reports=reports,
        reporter=secrets.token_hex(6),
        settings=foundation.settings.reports,
        clock=foundation.clock,
        rng=rng,
        log=get_logger("node_agent.reports"),
    )
    log = get_logger("node_agent.trust")
    return sender, TrustHandOver(enrolment.control_plane, credentials, enrolment.trust, rng, log)


def _trust_watch(foundation: Foundation, links: RelayLinks) -> TrustWatch:
    watch = TrustWatch(
        control_plane=foundation.enrolment.control_plane,
        trust=foundation.enrolment.trust,
        linked_relays=links.linked,
        metrics=foundation.metrics,
        clock=foundation.clock,
        rng=foundation.rng,
        log=get_logger("node_agent.trust"),
    )
    foundation.metrics.trust_age.set_function(lambda: watch.age_seconds)
    return watch


def _follow_trust(foundation: Foundation, watch: CallerWatch, links: RelayLinks, reports: Reports) -> None:
    """Cut what a newer trust document revokes or locks, and report it."""
    trust, metrics, log = foundation.enrolment.trust, foundation.metrics, get_logger("node_agent.trust")

    def tell() -> None:
        metrics.trust_sequence.set(trust.sequence)
        ends = [root.not_valid_after_utc.timestamp() for root in trust.store.keyring.roots]
        metrics.trust_root_expiry.set(min(ends, default=0.0))

    def changed() -> None:
        tell()
        cut, cut_links = watch.cut(trust.verdict), links.cut_ended()
        reports.adopted(trust.sequence, cut, cut_links)
        if cut:
            metrics.cut_exchanges.inc(len(cut))
            log.warning("trust.exchanges_cut", count=len(cut), sequence=trust.sequence)

    tell()
    reports.adopted(trust.sequence)
    trust.subscribe(changed)


def _follow_relays(foundation: Foundation, credentials: Credentials, links: RelayLinks) -> None:
    """Keep links to the relays that a newer trust document names, and to no others."""
    trust = foundation.enrolment.trust
    trust.subscribe(lambda: links.relays_changed(trust.relays_or(credentials.current.relays)))


def _follow_identity(foundation: Foundation, credentials: Credentials) -> None:
    """Keep the gauges, and the control plane's part of the policy, with the identity in force."""
    metrics, policy, clock = foundation.metrics, foundation.policy, foundation.clock
    log = get_logger("node_agent.policy")

    def changed(before: NodeIdentity | None, node: NodeIdentity) -> None:
        metrics.certificate_expiry.set(node.identity.not_after)
        metrics.token_expiry.set(token_lifespan(node.listen_token, clock.now()).end)
        try:
            policy.narrow(Narrowing.model_validate(node.policy))
        except ValidationError:
            log.error(
                "policy.addition_refused", consequence="commands are off until the control plane mends its policy"
            )
            policy.narrow(Narrowing(commands_enabled=False, ports=[]))

    changed(None, credentials.current)
    credentials.subscribe(changed)
