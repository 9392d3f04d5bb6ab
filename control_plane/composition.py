"""Composition: the parts of the daemon, put together by hand in the order in which they need each other."""

import base64
from dataclasses import dataclass

from control_plane.allowances import Allowances
from control_plane.api.application import Front, build_application
from control_plane.api.audit import AuditResource
from control_plane.api.bootstrap import BootstrapResource
from control_plane.api.callers import Resource, Route
from control_plane.api.clusters import ClusterResource
from control_plane.api.command_events import CommandEventResource
from control_plane.api.command_input import CommandInputResource
from control_plane.api.command_output import CommandOutputResource
from control_plane.api.commands import CommandResource
from control_plane.api.context import ApiContext
from control_plane.api.credentials import Credentials
from control_plane.api.held_trust import HeldTrustResource
from control_plane.api.init_scripts import InitScriptResource
from control_plane.api.join_policies import JoinPolicyResource
from control_plane.api.join_requests import JoinRequestResource
from control_plane.api.join_tokens import JoinTokenResource
from control_plane.api.late_renewals import LateRenewalResource
from control_plane.api.listening import ApiListener
from control_plane.api.locks import LockResource
from control_plane.api.node_inits import NodeInitResource
from control_plane.api.node_policy import NodePolicyResource
from control_plane.api.node_reports import NodeReportResource
from control_plane.api.node_secrets import NodeSecretResource
from control_plane.api.nodes import NodeResource
from control_plane.api.output_times import OutputTimesResource
from control_plane.api.pages import Pages
from control_plane.api.quotas import QuotaResource
from control_plane.api.relays import RelayResource
from control_plane.api.reports import ReportResource
from control_plane.api.revocations import RevocationResource
from control_plane.api.rotations import RotationResource
from control_plane.api.secret_grants import SecretGrantResource
from control_plane.api.secret_scopes import SecretScopeResource
from control_plane.api.secrets import SecretResource
from control_plane.api.submissions import SubmissionResource
from control_plane.api.tokens import TokenResource
from control_plane.api.trust import TrustResource
from control_plane.api.workspaces import WorkspaceResource
from control_plane.fleet.quota_book import QuotaBook
from control_plane.fleet_composition import Fleet, compose_fleet
from control_plane.foundation import Foundation, Identities
from control_plane.housekeeping import Housekeeping
from control_plane.identity.bootstrap import Bootstrap
from control_plane.identity.enrolment import Enrolment
from control_plane.identity.issuance import Issuance
from control_plane.identity.late_renewals import LateRenewals
from control_plane.identity.late_requests import LateRenewalLimits, LateRequests
from control_plane.identity.own_identity import OwnIdentity
from control_plane.identity.relay_late_renewals import RelayLateRenewals
from control_plane.identity.renewal_timetable import RenewalTimetable
from control_plane.identity.renewals import Renewals
from control_plane.identity.trust_followers import TrustFollowers
from control_plane.identity.trust_publisher import TrustPublisher
from control_plane.identity.trust_recovery import TrustRecovery
from control_plane.init_scripts.node_inits import NodeInits
from control_plane.metrics import ControlPlaneMetrics, NodeCensus
from control_plane.outputs.files import OutputFiles
from control_plane.refusal_ledger import RefusalLedger
from control_plane.rotation.adoption import OwnAdoption, ReportedAdoption
from control_plane.rotation.gauges import RotationGauges
from control_plane.rotation.progress import Watch
from control_plane.rotation.rotations import Rotations
from control_plane.secrets.bundles import Bundles
from control_plane.secrets.file_keys import FileKeyEncryption
from control_plane.secrets.rotation import KeyRotation
from control_plane.secrets.vault import SecretVault
from trunkline.runtime.logs import get_logger


@dataclass(frozen=True, slots=True)
class Secrets:
    """Workspace secrets at rest, and on their way to nodes."""

    vault: SecretVault
    bundles: Bundles
    rotation: KeyRotation


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """The whole, ready to run."""

    identities: Identities
    fleet: Fleet
    secrets: Secrets
    ledger: RefusalLedger
    housekeeping: Housekeeping
    rotations: Rotations
    listener: ApiListener
    routes: tuple[Route, ...]


def compose(foundation: Foundation) -> ControlPlane:
    """Put the parts together; nothing runs yet.

    Raises:
        CertificateError: a key or certificate in the state directory is missing or damaged.
    """
    metrics = ControlPlaneMetrics(foundation.registry)
    identities = _identities(foundation, metrics)
    fleet = compose_fleet(foundation, metrics, identities)
    foundation.registry.register(
        NodeCensus(fleet.monitor.standings, most_nodes=foundation.settings.health.most_nodes_in_metrics)
    )
    ledger = RefusalLedger(database=foundation.database, clock=foundation.clock, log=get_logger("control_plane.audit"))
    secrets = _secrets(foundation, metrics)
    rotations = _rotations(foundation, metrics, identities)
    allowances = Allowances(foundation.settings.limits.most_node_records_per_second, foundation.clock)
    routes = _routes(foundation, metrics, identities, fleet, secrets, ledger, rotations, allowances)
    front = Front(
        credentials=Credentials(
            database=foundation.database,
            trust_domain=foundation.settings.identity.trust_domain,
            signers=foundation.signers,
            operators=dict(foundation.operators),
            clock=foundation.clock,
        ),
        allowances=allowances,
        trust_sequence=lambda: identities.trust.sequence,
        database=foundation.database,
        ledger=ledger,
        metrics=metrics,
        clock=foundation.clock,
        log=get_logger("control_plane.api"),
    )
    listener = ApiListener(
        build_application(front, routes),
        listen=foundation.settings.listen,
        limits=foundation.settings.limits,
        tls=identities.own.tls,
        metrics=metrics,
        clock=foundation.clock,
    )
    housekeeping = Housekeeping(
        database=foundation.database,
        settings=foundation.settings,
        trust=identities.trust,
        clock=foundation.clock,
        rng=foundation.rng,
        log=get_logger("control_plane.housekeeping"),
        metrics=metrics,
        outputs=OutputFiles(foundation.settings.outputs_directory),
    )
    return ControlPlane(identities, fleet, secrets, ledger, housekeeping, rotations, listener, tuple(routes))


def _identities(foundation: Foundation, metrics: ControlPlaneMetrics) -> Identities:
    settings = foundation.settings
    trust_domain = settings.identity.trust_domain
    own = OwnIdentity(
        signers=foundation.signers,
        settings=settings,
        metrics=metrics,
        clock=foundation.clock,
        rng=foundation.rng,
        log=get_logger("control_plane.identity"),
    )
    issuance = Issuance(
        signers=foundation.signers,
        trust_domain=trust_domain,
        tokens=settings.tokens,
        timetable=RenewalTimetable(foundation.rng),
        metrics=metrics,
    )
    trust = TrustPublisher(
        database=foundation.database,
        identity=own,
        trust_domain=trust_domain,
        name_suffix=settings.identity.name_suffix,
        renew_within_seconds=settings.rotation.renew_within_seconds,
        metrics=metrics,
        clock=foundation.clock,
    )
    own.on_renewal(trust.refresh)
    recovery = TrustRecovery(
        database=foundation.database,
        roots=lambda: foundation.signers.seats.roots,
        stores=foundation.stores,
        trust_domain=trust_domain,
        metrics=metrics,
        clock=foundation.clock,
        log=get_logger("control_plane.trust"),
    )
    return Identities(own, issuance, trust, recovery)


def _rotations(foundation: Foundation, metrics: ControlPlaneMetrics, identities: Identities) -> Rotations:
    settings, database, own, trust = foundation.settings, foundation.database, identities.own, identities.trust
    own_adoption = OwnAdoption(lambda: trust.sequence, lambda: own.root_id)
    return Rotations(
        database=database,
        settings=settings,
        signers_in_force=foundation.signers,
        stores=foundation.stores,
        own=own,
        trust=trust,
        watch=Watch(database, settings, [ReportedAdoption(), own_adoption]),
        gauges=RotationGauges(metrics, signing_key_days=settings.rotation.signing_key_days),
        clock=foundation.clock,
        log=get_logger("control_plane.rotation"),
    )


def _secrets(foundation: Foundation, metrics: ControlPlaneMetrics) -> Secrets:
    settings, database, clock = foundation.settings, foundation.database, foundation.clock
    key_encryption = FileKeyEncryption(settings.secret_keys_file)
    vault = SecretVault(key_encryption)
    bundles = Bundles(
        database=database, vault=vault, trust_domain=settings.identity.trust_domain, metrics=metrics, clock=clock
    )
    return Secrets(vault, bundles, KeyRotation(database=database, key_encryption=key_encryption, clock=clock))


def _routes(
    foundation: Foundation,
    metrics: ControlPlaneMetrics,
    identities: Identities,
    fleet: Fleet,
    secrets: Secrets,
    ledger: RefusalLedger,
    rotations: Rotations,
    allowances: Allowances,
) -> list[Route]:
    settings, database, clock = foundation.settings, foundation.database, foundation.clock
    issuance = identities.issuance
    context = ApiContext(
        database=database,
        pages=Pages(base64.b64decode(foundation.page_key)),
        clock=clock,
        trust=identities.trust,
        quotas=QuotaBook(database),
        settings=settings,
        account_id=foundation.account_id,
    )
    renewals = Renewals(database=database, issuance=issuance, clock=clock)
    bootstrap = Bootstrap(
        database=database,
        issuance=issuance,
        providers=foundation.providers,
        ledger=ledger,
        metrics=metrics,
        clock=clock,
        most_challenges=settings.limits.most_challenges,
    )
    enrolment = Enrolment(database=database, issuance=issuance, ledger=ledger, metrics=metrics, clock=clock)
    followers = TrustFollowers(metrics)
    inits = NodeInits(database=database, trust_domain=settings.identity.trust_domain, metrics=metrics, clock=clock)
    resources: list[Resource] = [
        WorkspaceResource(context),
        QuotaResource(context),
        NodeResource(context, fleet.chronicle),
        NodePolicyResource(context, fleet.nodes),
        ClusterResource(context),
        InitScriptResource(context),
        NodeInitResource(context, inits, fleet.init_notices, fleet.dispatcher),
        JoinTokenResource(context),
        JoinPolicyResource(context),
        JoinRequestResource(context),
        TokenResource(context, issuance),
        CommandResource(context, fleet.dispatcher, fleet.conductor, fleet.chronicle),
        SubmissionResource(context, fleet.dispatcher, fleet.news),
        CommandInputResource(context, fleet.dispatcher, fleet.nodes),
        CommandOutputResource(context, fleet.dispatcher, fleet.nodes, fleet.kept),
        OutputTimesResource(context, fleet.nodes, fleet.kept),
        CommandEventResource(context, fleet.bell),
        SecretScopeResource(context, fleet.secret_notices),
        SecretResource(context, secrets.vault, secrets.rotation, fleet.secret_notices),
        SecretGrantResource(context, fleet.secret_notices),
        NodeSecretResource(secrets.bundles, allowances),
        RevocationResource(context, followers),
        LockResource(context, followers),
        AuditResource(context),
        RelayResource(context, enrolment, renewals),
        BootstrapResource(
            context,
            bootstrap,
            renewals,
            most_at_once=settings.limits.most_bootstraps_at_once,
            on_confirm=fleet.monitor.look_again,
        ),
        LateRenewalResource(context, *_late_renewals(foundation, issuance, ledger, metrics)),
        TrustResource(context, followers, identities.recovery, foundation.draining),
        HeldTrustResource(context, identities.recovery, rotations.follow),
        RotationResource(context, rotations),
        ReportResource(context, metrics, ledger),
        NodeReportResource(context, allowances, metrics, ledger),
    ]
    return [route for resource in resources for route in resource.routes()]


def _late_renewals(
    foundation: Foundation, issuance: Issuance, ledger: RefusalLedger, metrics: ControlPlaneMetrics
) -> tuple[LateRenewals, RelayLateRenewals]:
    settings, database, clock = foundation.settings, foundation.database, foundation.clock
    limits = LateRenewalLimits(settings.bootstrap.late_renewal_days, settings.limits.most_late_renewals_per_second)
    requests = LateRequests(
        database=database,
        trust_domain=settings.identity.trust_domain,
        clock=clock,
        limits=limits,
        ledger=ledger,
        metrics=metrics,
    )
    of_nodes = LateRenewals(database=database, requests=requests, issuance=issuance, clock=clock)
    return of_nodes, RelayLateRenewals(database=database, requests=requests, issuance=issuance, clock=clock)
