"""What the agent does before it can serve: find or get its identity, and open the trust that it holds."""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass

from certs.errors import CertificateError, KeyFileError
from node_agent.identity.bootstrap import Bootstrap, BootstrapRefused
from node_agent.identity.cloud_evidence import AwsEvidence, AzureEvidence, GcpEvidence
from node_agent.identity.control_plane import ControlPlane
from node_agent.identity.control_plane_tls import ControlPlaneTls
from node_agent.identity.evidence import EvidenceSource, EvidenceUnavailable, JoinToken
from node_agent.identity.late_renewal import LateRenewal
from node_agent.identity.lost_trust import LostTrust
from node_agent.identity.metadata_service import MetadataService
from node_agent.identity.node_identity import IN_FORCE_FILE, IdentityStore, NodeIdentity
from node_agent.identity.returning import Returning
from node_agent.identity.succession import Succession
from node_agent.identity.trust_in_force import TrustInForce
from node_agent.init_scripts.record import InitFiles
from node_agent.settings import AgentSettings, BootstrapSettings
from trunkline.channel.proxy_connect import ProxyAddress, parse_proxy_url
from trunkline.client.clock_offset import ClockOffset
from trunkline.client.outbound_proxy import outbound_proxy
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.daemon import EXIT_NO_PERMISSION, StartError
from trunkline.runtime.files import StateDirectoryError
from trunkline.runtime.logs import Logger, get_logger

BOOTSTRAP_BACKOFF_CAP_SECONDS = 60.0

ProxyFor = Callable[[str], ProxyAddress | None]


@dataclass(frozen=True, slots=True)
class Enrolment:
    """How this machine gets, and keeps, an identity."""

    control_plane: ControlPlane
    store: IdentityStore
    trust: TrustInForce
    lost_trust: LostTrust
    bootstrap: Bootstrap
    succession: Succession
    returning: Returning


def proxies(settings: AgentSettings) -> ProxyFor:
    """Return what says through which proxy an address is dialled.

    Raises:
        StartError: the proxy's URL is none.
    """
    try:
        configured = None if settings.proxy.url is None else parse_proxy_url(settings.proxy.url.reveal())
        outbound_proxy(settings.control_plane.url)
    except ValueError as error:
        raise StartError(f"the proxy cannot be used: {error}; change [proxy] url or HTTPS_PROXY") from None
    return outbound_proxy if configured is None else lambda url: configured


def control_plane_tls(settings: AgentSettings) -> ControlPlaneTls:
    """Return what makes the TLS to the control plane.

    Raises:
        StartError: the CA file cannot be used.
    """
    tls = ControlPlaneTls(settings.control_plane.ca_file, settings.control_plane.root_sha256)
    try:
        tls.context()
    except CertificateError as error:
        raise StartError(f"[control_plane]: {error}") from None
    return tls


def prepare_enrolment(
    settings: AgentSettings, *, proxy_for: ProxyFor, clock_offset: ClockOffset, clock: Clock, rng: random.Random
) -> Enrolment:
    """Wire what gets and keeps the identity.

    Raises:
        StartError: what is stored, or the CA file, cannot be used.
    """
    log = get_logger("node_agent.identity")
    asked, proxy = settings.control_plane, proxy_for(settings.control_plane.url)
    tls = control_plane_tls(settings)
    try:
        trust = TrustInForce(settings.state_directory, clock, get_logger("node_agent.trust"))
    except CertificateError as error:
        raise StartError(str(error)) from None
    control_plane = ControlPlane(
        asked.url,
        tls,
        proxy=proxy,
        request_seconds=asked.request_seconds,
        clock=clock,
        clock_offset=clock_offset,
        verdict=trust.certificate_verdict,
    )
    store = IdentityStore(settings.state_directory)
    bootstrap = _bootstrap(settings, control_plane, store, trust, clock, rng)
    succession = Succession(
        control_plane=control_plane,
        store=store,
        trust=trust,
        directory=settings.state_directory,
        clock=clock,
        log=log,
    )
    by_key = settings.bootstrap.method == "join_token"
    returning = Returning(
        store=store,
        succession=succession,
        late_renewal=LateRenewal(control_plane, succession) if by_key else None,
        bootstrap=bootstrap,
        backoff=Backoff(rng, cap_seconds=BOOTSTRAP_BACKOFF_CAP_SECONDS),
        clock=clock,
        log=log,
    )
    lost_trust = LostTrust(
        control_plane=control_plane,
        trust=trust,
        backoff=Backoff(rng, cap_seconds=BOOTSTRAP_BACKOFF_CAP_SECONDS),
        clock=clock,
        log=log,
    )
    return Enrolment(control_plane, store, trust, lost_trust, bootstrap, succession, returning)


def _bootstrap(
    settings: AgentSettings,
    control_plane: ControlPlane,
    store: IdentityStore,
    trust: TrustInForce,
    clock: Clock,
    rng: random.Random,
) -> Bootstrap:
    log = get_logger("node_agent.identity")
    return Bootstrap(
        control_plane=control_plane,
        evidence=evidence_source(settings.bootstrap, clock, rng),
        store=store,
        directory=settings.state_directory,
        take_trust=trust.take,
        note_new_node=InitFiles(settings.state_directory, log).note_new_node,
        wishes=wishes(settings.bootstrap),
        backoff=Backoff(rng, cap_seconds=BOOTSTRAP_BACKOFF_CAP_SECONDS),
        clock=clock,
        log=log,
    )


def evidence_source(settings: BootstrapSettings, clock: Clock, rng: random.Random) -> EvidenceSource:
    """Return where this machine's evidence comes from."""
    metadata = MetadataService(settings.metadata_url, rng)
    if settings.method == "azure":
        return AzureEvidence(metadata, settings.audience or "", settings.client_id)
    if settings.method == "aws":
        return AwsEvidence(metadata, clock, sts_host=settings.aws_sts_host)
    if settings.method == "gcp":
        return GcpEvidence(metadata, settings.audience or "")
    if settings.join_token_file is None:
        raise StartError("[bootstrap] join_token_file is missing")
    return JoinToken(settings.join_token_file)


def look_for_join_token(settings: AgentSettings) -> None:
    """See that there is a join token, if the machine is to become a node by one and is none yet.

    Raises:
        StartError: it is missing, empty, or others can read it.
    """
    path = settings.bootstrap.join_token_file
    if settings.bootstrap.method != "join_token" or path is None or (settings.state_directory / IN_FORCE_FILE).exists():
        return
    try:
        JoinToken(path).read()
    except EvidenceUnavailable as error:
        raise StartError(f"[bootstrap] join_token_file: {error}") from None


def wishes(settings: BootstrapSettings) -> dict[str, str]:
    """Return what the machine would like to be, as the control plane takes it, and need not grant."""
    asked = {"node_name": settings.node_name, "workspace": settings.workspace}
    return {name: value for name, value in asked.items() if value is not None}


async def establish_identity(enrolment: Enrolment, clock: Clock, log: Logger) -> NodeIdentity:
    """Return the stored identity while it is valid, without asking anybody; else come back, or bootstrap.

    A valid identity whose trust document was lost is of use with the control plane's newest.

    Raises:
        StartError: the stored identity is unusable, or the control plane does not admit this machine.
        StateDirectoryError: a file cannot be read or written.
    """
    try:
        node = enrolment.store.load()
        if node is None or not await _has_trust(enrolment, node, clock):
            return await _bootstrapped(enrolment)
        if node.is_valid(clock.now()):
            log.info("identity.loaded", node_id=node.node_id, node=node.node, workspace=node.workspace, pid=os.getpid())
            return node
        return await enrolment.returning.run(node)
    except (KeyFileError, OSError) as error:
        raise StateDirectoryError(str(error)) from None
    except CertificateError as error:
        raise StartError(str(error)) from None


async def _has_trust(enrolment: Enrolment, node: NodeIdentity, clock: Clock) -> bool:
    if enrolment.trust.sequence:
        return True
    return node.is_valid(clock.now()) and await enrolment.lost_trust.replace(node)


async def _bootstrapped(enrolment: Enrolment) -> NodeIdentity:
    """Get an identity by evidence.

    Raises:
        StartError: the control plane does not admit this machine, and will not.
        CertificateError, OSError: the state directory cannot be read or written.
    """
    try:
        return await enrolment.bootstrap.run()
    except BootstrapRefused as error:
        raise StartError(str(error), EXIT_NO_PERMISSION) from None
