"""The metrics of the control plane, made once in `app.py` and handed down."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
COMMAND_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 14400.0, 86400.0)


@dataclass(frozen=True, slots=True)
class NodeStanding:
    """What the metrics page says about one node; `seen_time` is seconds since the epoch."""

    workspace: str
    node: str
    up: bool
    state: str
    seen_time: float | None
    rtt_seconds: float | None


class ControlPlaneMetrics:
    """The counters, gauges and histograms that the parts of the daemon move."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._define_requests(registry)
        self._define_identity(registry)
        self._define_trust(registry)
        self._define_rotation(registry)
        self._define_commands(registry)
        self._define_nodes(registry)

    def _define_requests(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "trunkline_control_plane_requests",
            "API requests answered.",
            ["method", "route", "status"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "trunkline_control_plane_request_duration_seconds",
            "Time from the head of an API request to its answer; streams are not counted.",
            ["route"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self.refusals = Counter(
            "trunkline_control_plane_refusals",
            "Requests refused for their credentials, by role of the route.",
            ["role", "error_code"],
            registry=registry,
        )
        self.database_failing = Gauge(
            "trunkline_control_plane_database_failing",
            "1 while the database is away, kept by another process, or its disk is full or read-only.",
            registry=registry,
        )
        self.connections = Gauge(
            "trunkline_control_plane_connections", "Connections open to the API.", registry=registry
        )
        self.connections_closed = Counter(
            "trunkline_control_plane_connections_closed",
            "Connections that the control plane closed for their behaviour.",
            ["reason"],
            registry=registry,
        )

    def _define_identity(self, registry: CollectorRegistry) -> None:
        self.bootstraps = Counter(
            "trunkline_control_plane_bootstraps",
            "Bootstraps and enrolments decided.",
            ["method", "outcome"],
            registry=registry,
        )
        self.bootstraps_waiting = Gauge(
            "trunkline_control_plane_bootstraps_waiting",
            "Machines that wait for their turn to join.",
            ["step"],
            registry=registry,
        )
        self.attestations = Counter(
            "trunkline_control_plane_attestations",
            "Attestations of machines decided, by who vouched for them.",
            ["platform", "outcome"],
            registry=registry,
        )
        self.clone_alarms = Counter(
            "trunkline_control_plane_clone_alarms",
            "Machines that attested while their node was online as another instance.",
            registry=registry,
        )
        self.issued = Counter(
            "trunkline_control_plane_certificates_issued", "SVIDs issued.", ["role"], registry=registry
        )
        self.certificate_expiry = Gauge(
            "trunkline_control_plane_certificate_expiry_timestamp_seconds",
            "When the certificates that the control plane stands on end.",
            ["certificate"],
            registry=registry,
        )

    def _define_trust(self, registry: CollectorRegistry) -> None:
        self.trust_sequence = Gauge(
            "trunkline_control_plane_trust_document_sequence",
            "Number of the current trust document.",
            registry=registry,
        )
        self.trust_feeds = Gauge(
            "trunkline_control_plane_trust_document_feeds", "Relays that follow the trust document.", registry=registry
        )
        self.revocations = Gauge(
            "trunkline_control_plane_revocations", "Revocations in the current trust document.", registry=registry
        )
        self.locks = Gauge("trunkline_control_plane_locks", "Locks in force.", registry=registry)
        self.trust_recoveries = Counter(
            "trunkline_control_plane_trust_recoveries",
            "Trust documents that were taken back from whoever held them, after a restore.",
            registry=registry,
        )

    def _define_rotation(self, registry: CollectorRegistry) -> None:
        self.rotation_phase = Gauge(
            "trunkline_control_plane_rotation_phase",
            "1 for the phase that the rotation is in.",
            ["rotation", "phase"],
            registry=registry,
        )
        self.rotation_step_time = Gauge(
            "trunkline_control_plane_rotation_step_timestamp_seconds",
            "When the rotation's last step was taken.",
            ["rotation"],
            registry=registry,
        )
        self.signer_expiry = Gauge(
            "trunkline_control_plane_signer_expiry_timestamp_seconds",
            "When the root ends, or the token key is due to be rotated; 0 for a seat that is empty.",
            ["rotation", "seat"],
            registry=registry,
        )
        self.adoption = Gauge(
            "trunkline_control_plane_adoption",
            "Live machines that have reported what the next step of the rotation needs, and that have not.",
            ["rotation", "machine", "state"],
            registry=registry,
        )

    def _define_commands(self, registry: CollectorRegistry) -> None:
        self.commands = Counter(
            "trunkline_control_plane_commands", "Commands that reached a final state.", ["state"], registry=registry
        )
        self.command_seconds = Histogram(
            "trunkline_control_plane_command_duration_seconds",
            "How long commands ran, by the clocks of their nodes and the state that they ended in.",
            ["state"],
            buckets=COMMAND_BUCKETS,
            registry=registry,
        )
        self.command_queue_seconds = Histogram(
            "trunkline_control_plane_command_queue_seconds",
            "How long commands waited for a place on their nodes.",
            buckets=COMMAND_BUCKETS,
            registry=registry,
        )
        self.command_delivery_seconds = Histogram(
            "trunkline_control_plane_command_delivery_seconds",
            "Time from the recording of a command to its node's word that it has it.",
            buckets=COMMAND_BUCKETS,
            registry=registry,
        )
        self.commands_open = Gauge(
            "trunkline_control_plane_commands_open", "Commands that are not in a final state.", registry=registry
        )
        self.rollouts = Counter(
            "trunkline_control_plane_rollouts", "Rollouts that have ended.", ["outcome"], registry=registry
        )
        self.rollouts_open = Gauge(
            "trunkline_control_plane_rollouts_open", "Rollouts that have not ended.", registry=registry
        )
        self.outputs = Counter(
            "trunkline_control_plane_outputs",
            "Outputs of ended commands that were kept, or that their nodes no longer had.",
            ["state"],
            registry=registry,
        )
        self.outputs_wanted = Gauge(
            "trunkline_control_plane_outputs_wanted", "Outputs that are yet to be fetched.", registry=registry
        )
        self.kept_output_bytes = Gauge(
            "trunkline_control_plane_kept_output_bytes", "Size of the outputs that are kept.", registry=registry
        )

    def _define_nodes(self, registry: CollectorRegistry) -> None:
        self.node_calls = Counter(
            "trunkline_control_plane_node_calls",
            "Calls to nodes through the relay, by what came of them.",
            ["purpose", "outcome"],
            registry=registry,
        )
        self.report_items = Counter(
            "trunkline_control_plane_report_items", "Items that relays reported.", ["type"], registry=registry
        )
        self.node_report_items = Counter(
            "trunkline_control_plane_node_report_items", "Items that nodes reported.", ["type"], registry=registry
        )
        self.reports_dropped = Counter(
            "trunkline_control_plane_report_items_dropped",
            "Items that relays and nodes said they dropped, or that were not understood.",
            registry=registry,
        )
        self.secret_bundles = Counter(
            "trunkline_control_plane_secret_bundles", "Bundles of secrets handed to nodes.", registry=registry
        )
        self.secret_uses = Counter(
            "trunkline_control_plane_secret_uses", "Uses of secrets by commands that nodes reported.", registry=registry
        )
        self.node_inits = Counter(
            "trunkline_control_plane_node_inits", "Initialisations of nodes that ended.", ["outcome"], registry=registry
        )
        self.nodes_by_init = Gauge(
            "trunkline_control_plane_nodes_by_init", "Nodes by the state of their init.", ["state"], registry=registry
        )
        self.secret_nodes_behind = Gauge(
            "trunkline_control_plane_secret_nodes_behind",
            "Confirmed nodes that have not taken the secrets that they are to hold.",
            registry=registry,
        )


class NodeCensus(Collector):
    """Node states at the moment of the scrape: per node up to a bound, and always as sums."""

    def __init__(self, standings: Callable[[], Iterable[NodeStanding]], *, most_nodes: int) -> None:
        self._standings = standings
        self._most_nodes = most_nodes

    def collect(self) -> Iterator[Metric]:
        """Yield the families; called by the registry at each scrape."""
        standings = list(self._standings())
        sums = GaugeMetricFamily("trunkline_nodes", "Nodes by state.", labels=["state"])
        for state in ("online", "degraded", "offline", "pending"):
            sums.add_metric([state], sum(1 for standing in standings if standing.state == state))
        yield sums
        up = GaugeMetricFamily(
            "trunkline_node_up", "1 if the node answered its last health check.", labels=["workspace", "node"]
        )
        seen = GaugeMetricFamily(
            "trunkline_node_last_seen_timestamp_seconds",
            "When the node last answered a health check.",
            labels=["workspace", "node"],
        )
        rtt = GaugeMetricFamily(
            "trunkline_node_health_check_duration_seconds",
            "How long the node's last health check took.",
            labels=["workspace", "node"],
        )
        for standing in standings[: self._most_nodes]:
            name = [standing.workspace, standing.node]
            up.add_metric(name, 1.0 if standing.up else 0.0)
            if standing.seen_time is not None:
                seen.add_metric(name, standing.seen_time)
            if standing.rtt_seconds is not None:
                rtt.add_metric(name, standing.rtt_seconds)
        yield from (up, seen, rtt)
        yield GaugeMetricFamily(
            "trunkline_nodes_without_metrics",
            "Nodes beyond the bound on metrics of single nodes.",
            value=max(0, len(standings) - self._most_nodes),
        )
