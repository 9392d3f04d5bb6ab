"""Puts the part of the control plane together that calls nodes: commands, rollouts, health, notices."""

from dataclasses import dataclass

from control_plane.fleet.dispatcher import Dispatcher
from control_plane.fleet.health_record import HealthRecord
from control_plane.fleet.init_notices import INIT_NOTICE, InitNotices
from control_plane.fleet.monitor import HealthMonitor
from control_plane.fleet.node_commands import NodeCommands
from control_plane.fleet.notice_calls import NoticeCalls, NoticeKind
from control_plane.fleet.reach import NodeReach
from control_plane.fleet.relay_links import RelayLinks
from control_plane.fleet.rollout_conductor import RolloutConductor
from control_plane.fleet.secret_notices import SECRET_NOTICE, SecretNotices
from control_plane.fleet.submission_news import SubmissionNews
from control_plane.foundation import Foundation, Identities
from control_plane.history.bell import Bell
from control_plane.history.chronicle import Chronicle
from control_plane.history.event_log import EventLog
from control_plane.metrics import ControlPlaneMetrics
from control_plane.outputs.files import OutputFiles
from control_plane.outputs.keeper import OutputKeeper
from control_plane.outputs.kept import KeptOutputs
from trunkline.runtime.logs import Logger, get_logger


@dataclass(frozen=True, slots=True)
class CommandWork:
    """What has to do with commands: their way to the nodes, their rollouts, their history and their outputs."""

    news: SubmissionNews
    dispatcher: Dispatcher
    conductor: RolloutConductor
    chronicle: Chronicle
    bell: Bell
    keeper: OutputKeeper
    kept: KeptOutputs


@dataclass(frozen=True, slots=True)
class Fleet:
    """The control plane as a sender."""

    reach: NodeReach
    nodes: NodeCommands
    commands: CommandWork
    monitor: HealthMonitor
    secret_notices: SecretNotices
    init_notices: InitNotices


def compose_fleet(foundation: Foundation, metrics: ControlPlaneMetrics, identities: Identities) -> Fleet:
    """Put it together; nothing runs yet."""
    reach = _reach(foundation, metrics, identities)
    nodes = NodeCommands(
        reach=reach,
        issuance=identities.issuance,
        name_suffix=foundation.settings.identity.name_suffix,
        clock=foundation.clock,
        timeout_seconds=foundation.settings.commands.call_timeout_seconds,
    )
    commands = _commands(foundation, metrics, nodes)
    secret_notices, init_notices = _notices(foundation, metrics, identities, reach)

    def returned(node_id: str) -> None:
        commands.dispatcher.kick_node(node_id)
        commands.keeper.returned(node_id)
        secret_notices.returned(node_id)
        init_notices.returned(node_id)

    record = HealthRecord(
        database=foundation.database,
        clock=foundation.clock,
        history_interval_seconds=foundation.settings.health.history_interval_seconds,
    )
    monitor = HealthMonitor(
        record=record,
        nodes=nodes,
        settings=foundation.settings.health,
        on_return=returned,
        clock=foundation.clock,
        rng=foundation.rng,
        log=get_logger("control_plane.health"),
    )
    return Fleet(
        reach=reach,
        nodes=nodes,
        commands=commands,
        monitor=monitor,
        secret_notices=secret_notices,
        init_notices=init_notices,
    )


def _reach(foundation: Foundation, metrics: ControlPlaneMetrics, identities: Identities) -> NodeReach:
    relay_links = RelayLinks(
        client_tls=identities.own.client_tls,
        verdict=identities.trust.certificate_verdict,
        clock=foundation.clock,
        log=get_logger("control_plane.relays"),
    )
    identities.trust.subscribe(relay_links.cut_ended)
    return NodeReach(
        database=foundation.database,
        sender=foundation.make_sender or relay_links.sender,
        metrics=metrics,
        clock=foundation.clock,
    )


def _commands(foundation: Foundation, metrics: ControlPlaneMetrics, nodes: NodeCommands) -> CommandWork:
    settings, database = foundation.settings.commands, foundation.database
    clock, rng = foundation.clock, foundation.rng
    news, bell = SubmissionNews(), Bell()
    files, events = OutputFiles(foundation.settings.outputs_directory), EventLog(bell, clock)
    keeper = OutputKeeper(
        database=database,
        nodes=nodes,
        files=files,
        events=events,
        metrics=metrics,
        clock=clock,
        rng=rng,
        log=get_logger("control_plane.outputs"),
        most_bytes=settings.keep_output_bytes,
    )
    chronicle = Chronicle(settings=settings, events=events, metrics=metrics, clock=clock, fetch_output=keeper.wanted)
    dispatcher = Dispatcher(
        database=database,
        nodes=nodes,
        news=news,
        metrics=metrics,
        clock=clock,
        rng=rng,
        log=get_logger("control_plane.commands"),
        most_at_once=settings.most_at_once,
        most_watched=settings.most_watched,
        chronicle=chronicle,
    )
    conductor = RolloutConductor(
        database=database,
        news=news,
        dispatcher=dispatcher,
        settings=settings,
        metrics=metrics,
        clock=clock,
        log=get_logger("control_plane.rollouts"),
    )
    return CommandWork(news, dispatcher, conductor, chronicle, bell, keeper, KeptOutputs(database, files))


def _notices(
    foundation: Foundation, metrics: ControlPlaneMetrics, identities: Identities, reach: NodeReach
) -> tuple[SecretNotices, InitNotices]:
    database, clock = foundation.database, foundation.clock

    def calls(kind: NoticeKind, log: Logger) -> NoticeCalls:
        return NoticeCalls(
            kind,
            reach=reach,
            issuance=identities.issuance,
            name_suffix=foundation.settings.identity.name_suffix,
            clock=clock,
            log=log,
        )

    log = get_logger("control_plane.secrets")
    of_secrets = SecretNotices(
        database=database, calls=calls(SECRET_NOTICE, log), metrics=metrics, clock=clock, log=log
    )
    log = get_logger("control_plane.init")
    return of_secrets, InitNotices(
        database=database, calls=calls(INIT_NOTICE, log), metrics=metrics, clock=clock, log=log
    )
