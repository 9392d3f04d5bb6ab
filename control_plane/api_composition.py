"""Puts together what answers the API: a resource for each subject, and what they stand on."""

import base64

from control_plane.allowances import Allowances
from control_plane.api.audit import AuditResource
from control_plane.api.bootstrap import CHALLENGES_AT_ONCE, BootstrapResource, JoiningLines
from control_plane.api.callers import Resource, Route
from control_plane.api.clusters import ClusterResource
from control_plane.api.command_events import CommandEventResource
from control_plane.api.command_input import CommandInputResource
from control_plane.api.command_output import CommandOutputResource
from control_plane.api.commands import CommandResource
from control_plane.api.context import ApiContext
from control_plane.api.held_trust import HeldTrustResource
from control_plane.api.init_scripts import InitScriptResource
from control_plane.api.join_policies import JoinPolicyResource
from control_plane.api.join_requests import JoinRequestResource
from control_plane.api.join_tokens import JoinTokenResource
from control_plane.api.late_renewals import LateRenewalResource
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
from control_plane.fleet_composition import Fleet
from control_plane.foundation import Foundation, Identities, Secrets
from control_plane.identity.bootstrap import Bootstrap
from control_plane.identity.enrolment import Enrolment
from control_plane.identity.issuance import Issuance
from control_plane.identity.late_renewals import LateRenewals
from control_plane.identity.late_requests import LateRenewalLimits, LateRequests
from control_plane.identity.relay_late_renewals import RelayLateRenewals
from control_plane.identity.renewals import Renewals
from control_plane.identity.trust_followers import TrustFollowers
from control_plane.init_scripts.node_inits import NodeInits
from control_plane.line import Line
from control_plane.metrics import ControlPlaneMetrics
from control_plane.refusal_ledger import RefusalLedger
from control_plane.rotation.rotations import Rotations
from control_plane.workspace_removal import WorkspaceRemoval


def compose_routes(
    foundation: Foundation,
    metrics: ControlPlaneMetrics,
    identities: Identities,
    fleet: Fleet,
    secrets: Secrets,
    ledger: RefusalLedger,
    rotations: Rotations,
    allowances: Allowances,
    removal: WorkspaceRemoval,
) -> list[Route]:
    """Put all resources together, and return the table of their routes."""
    settings, database, clock = foundation.settings, foundation.database, foundation.clock
    issuance, commands = identities.issuance, fleet.commands
    context = _context(foundation, identities)
    renewals = Renewals(database=database, issuance=issuance, clock=clock)
    enrolment = Enrolment(database=database, issuance=issuance, ledger=ledger, metrics=metrics, clock=clock)
    inits = NodeInits(database=database, trust_domain=settings.identity.trust_domain, metrics=metrics, clock=clock)
    followers = TrustFollowers(metrics)
    resources: list[Resource] = [
        WorkspaceResource(context, removal, commands.news),
        QuotaResource(context),
        NodeResource(context, commands.chronicle, commands.news),
        NodePolicyResource(context, fleet.nodes),
        ClusterResource(context),
        InitScriptResource(context),
        NodeInitResource(context, inits, fleet.init_notices, commands.dispatcher),
        JoinTokenResource(context),
        JoinPolicyResource(context),
        JoinRequestResource(context),
        TokenResource(context, issuance),
        CommandResource(context, commands.dispatcher, commands.conductor, commands.chronicle),
        SubmissionResource(context, commands.dispatcher, commands.news),
        CommandInputResource(context, commands.dispatcher, fleet.nodes),
        CommandOutputResource(context, commands.dispatcher, fleet.nodes, commands.kept),
        OutputTimesResource(context, fleet.nodes, commands.kept),
        CommandEventResource(context, commands.bell),
        SecretScopeResource(context, fleet.secret_notices),
        SecretResource(context, secrets.vault, secrets.rotation, fleet.secret_notices),
        SecretGrantResource(context, fleet.secret_notices),
        NodeSecretResource(secrets.bundles, allowances),
        RevocationResource(context, followers, identities.own),
        LockResource(context, followers, identities.own),
        AuditResource(context),
        RelayResource(context, enrolment, renewals),
        BootstrapResource(
            context,
            _bootstrap(foundation, issuance, ledger, metrics),
            renewals,
            lines=_joining_lines(foundation, metrics),
            on_confirm=fleet.monitor.look_again,
        ),
        LateRenewalResource(context, *_late_renewals(foundation, issuance, ledger, metrics)),
        TrustResource(context, followers, identities.recovery, foundation.draining),
        HeldTrustResource(context, identities.recovery, rotations.follow),
        RotationResource(context, rotations),
        ReportResource(context, allowances, metrics, ledger),
        NodeReportResource(context, allowances, metrics, ledger),
    ]
    return [route for resource in resources for route in resource.routes()]


def _joining_lines(foundation: Foundation, metrics: ControlPlaneMetrics) -> JoiningLines:
    limits = foundation.settings.limits

    def line(step: str, most_at_once: int) -> Line:
        return Line(
            most_at_once=most_at_once,
            most_waiting=limits.most_bootstraps_waiting,
            rng=foundation.rng,
            told=metrics.bootstraps_waiting.labels(step).set,
        )

    return JoiningLines(line("challenge", CHALLENGES_AT_ONCE), line("bootstrap", limits.most_bootstraps_at_once))


def _context(foundation: Foundation, identities: Identities) -> ApiContext:
    return ApiContext(
        database=foundation.database,
        pages=Pages(base64.b64decode(foundation.page_key)),
        clock=foundation.clock,
        trust=identities.trust,
        quotas=QuotaBook(foundation.database),
        settings=foundation.settings,
        account_id=foundation.account_id,
    )


def _bootstrap(
    foundation: Foundation, issuance: Issuance, ledger: RefusalLedger, metrics: ControlPlaneMetrics
) -> Bootstrap:
    return Bootstrap(
        database=foundation.database,
        issuance=issuance,
        providers=foundation.providers,
        ledger=ledger,
        metrics=metrics,
        clock=foundation.clock,
        most_challenges=foundation.settings.limits.most_challenges,
    )


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
