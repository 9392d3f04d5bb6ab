"""Composition: the parts of the daemon, put together by hand in the order in which they need each other."""

from dataclasses import dataclass

from control_plane.allowances import Allowances
from control_plane.api.application import Front, build_application
from control_plane.api.callers import Route
from control_plane.api.credentials import Credentials
from control_plane.api.listening import ApiListener
from control_plane.api_composition import compose_routes
from control_plane.fleet_composition import Fleet, compose_fleet
from control_plane.foundation import Foundation, Identities, Secrets
from control_plane.housekeeping import Housekeeping
from control_plane.identity.forgotten_certificates import ForgottenCertificates
from control_plane.identity.issuance import Issuance
from control_plane.identity.own_identity import OwnIdentity
from control_plane.identity.renewal_timetable import RenewalTimetable
from control_plane.identity.trust_publisher import TrustPublisher
from control_plane.identity.trust_recovery import TrustRecovery
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
from control_plane.signing.token_ends import TokenEnds
from control_plane.workspace_removal import WorkspaceRemoval
from trunkline.runtime.logs import get_logger


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """The whole, ready to run."""

    identities: Identities
    fleet: Fleet
    secrets: Secrets
    ledger: RefusalLedger
    housekeeping: Housekeeping
    removal: WorkspaceRemoval
    rotations: Rotations
    listener: ApiListener
    routes: tuple[Route, ...]


def compose(foundation: Foundation) -> ControlPlane:
    """Put the parts together; nothing runs yet.

    Raises:
        CertificateError: a key or certificate in the state directory is missing or damaged.
    """
    metrics = ControlPlaneMetrics(foundation.registry)
    metrics.database_failing.set_function(lambda: float(foundation.database.remark() is not None))
    token_ends = TokenEnds(foundation.clock)
    identities = _identities(foundation, metrics, token_ends)
    fleet = compose_fleet(foundation, metrics, identities)
    foundation.registry.register(
        NodeCensus(fleet.monitor.standings, most_nodes=foundation.settings.health.most_nodes_in_metrics)
    )
    ledger = RefusalLedger(database=foundation.database, clock=foundation.clock, log=get_logger("control_plane.audit"))
    secrets = _secrets(foundation, metrics)
    rotations = _rotations(foundation, metrics, identities, token_ends)
    allowances = Allowances(foundation.settings.limits.most_node_records_per_second, foundation.clock)
    outputs = OutputFiles(foundation.settings.outputs_directory)
    removal = WorkspaceRemoval(
        database=foundation.database, outputs=outputs, log=get_logger("control_plane.workspaces")
    )
    routes = compose_routes(foundation, metrics, identities, fleet, secrets, ledger, rotations, allowances, removal)
    listener = ApiListener(
        build_application(_front(foundation, metrics, identities, ledger, allowances), routes),
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
        outputs=outputs,
    )
    return ControlPlane(identities, fleet, secrets, ledger, housekeeping, removal, rotations, listener, tuple(routes))


def _front(
    foundation: Foundation,
    metrics: ControlPlaneMetrics,
    identities: Identities,
    ledger: RefusalLedger,
    allowances: Allowances,
) -> Front:
    credentials = Credentials(
        database=foundation.database,
        trust_domain=foundation.settings.identity.trust_domain,
        signers=foundation.signers,
        operators=dict(foundation.operators),
        forgotten=ForgottenCertificates(
            database=foundation.database, signers=foundation.signers, clock=foundation.clock
        ),
        clock=foundation.clock,
    )
    return Front(
        credentials=credentials,
        allowances=allowances,
        trust_sequence=lambda: identities.trust.sequence,
        database=foundation.database,
        ledger=ledger,
        metrics=metrics,
        clock=foundation.clock,
        log=get_logger("control_plane.api"),
    )


def _identities(foundation: Foundation, metrics: ControlPlaneMetrics, token_ends: TokenEnds) -> Identities:
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
        token_ends=token_ends,
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


def _rotations(
    foundation: Foundation, metrics: ControlPlaneMetrics, identities: Identities, token_ends: TokenEnds
) -> Rotations:
    settings, database, own, trust = foundation.settings, foundation.database, identities.own, identities.trust
    own_adoption = OwnAdoption(lambda: trust.sequence, lambda: own.root_id)
    return Rotations(
        database=database,
        settings=settings,
        signers_in_force=foundation.signers,
        stores=foundation.stores,
        own=own,
        trust=trust,
        watch=Watch(database, settings, [ReportedAdoption(), own_adoption], token_ends),
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
