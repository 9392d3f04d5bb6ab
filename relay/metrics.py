"""Every metric of the relay, by name; `docs/metrics.md` describes them and a test compares the two."""

from prometheus_client import CollectorRegistry, Gauge

from certs.errors import CertificateError, TrustError, TrustRollbackError
from relay.tallies import Distributions, Tallies, Tally
from trunkline.channel.errors import ErrorCode
from trunkline.channel.outcomes import Outcome

PREFIX = "trunkline_relay_"
OTHER_WORKSPACES = "_other"


class RelayMetrics:
    """The numbers of one relay, in the registry that is handed in.

    Those on the data path are `Tally` objects: fetched once, added to directly. The outcome `forwarded` stands for a
    call that the node itself answered; every other outcome is one of `Outcome`, answered by the relay.
    """

    def __init__(self, registry: CollectorRegistry, *, max_workspaces: int = 100) -> None:
        self._max_workspaces = max_workspaces
        self._workspaces: set[str] = set()
        names = _Names(registry)
        self._define_calls(names)
        self._define_connections(names)
        self._define_links(names)
        self._define_trust(names)
        self._define_reports(names)
        self._define_process(names)
        self._show_what_alerts_ask_for()

    def _show_what_alerts_ask_for(self) -> None:
        """Have what should never happen there as 0: Prometheus sees no increase in a series that begins with 1."""
        for reason in ("connections", "address", "waiting"):
            self.connections_refused.of(reason)
        self.accept_pauses.of("resources")
        for role in ("listener", "sender"):
            self.links_ended.of(role, ErrorCode.RATE_EXCEEDED.value)
        for refusal in (CertificateError, TrustError, TrustRollbackError):
            self.trust_refused.of(refusal.__name__)

    def _define_calls(self, names: "_Names") -> None:
        self.calls = names.tallies("calls", "Calls that ended, by door and outcome.", "door", "outcome")
        self.calls_open = names.gauges("calls_open", "Calls in progress, by door.", "door")
        self.calls_paced = names.gauge("calls_paced", "Calls in progress that wait for their quota of bytes.")
        self.call_seconds = names.distributions(
            "call_seconds", "Seconds from a request's head to its call's end.", "door"
        )
        self.workspace_calls = names.tallies(
            "workspace_calls", "Calls admitted, by workspace, the rest under _other.", "workspace"
        )
        self.bytes = names.tallies(
            "body_bytes", "Bytes of bodies and raw streams passed on, by direction.", "direction"
        )
        self.streams_cut = names.tallies(
            "streams_cut", "Streams reset since too many bytes were held, by bound.", "bound"
        )
        self.held_bytes = names.gauge("held_bytes", "Bytes held for those who do not take them, at the last look.")
        self.deadlines = names.tallies("deadlines", "Connections and calls ended by a deadline, by which.", "deadline")

    def _define_connections(self, names: "_Names") -> None:
        self.connections = names.tallies("connections", "TLS connections accepted.")
        self.connections_open = names.gauges("connections_open", "TLS connections open.")
        self.connections_refused = names.tallies("connections_refused", "Connections closed over a bound.", "reason")
        self.handshakes_open = names.gauges("handshakes_open", "Connections that set up TLS.")
        self.handshakes = names.tallies("handshakes", "TLS handshakes begun.")
        self.handshakes_paced = names.tallies("handshakes_paced", "Connections that waited since the budget was spent.")
        self.handshakes_waiting = names.gauges("handshakes_waiting", "Connections that wait to set up TLS.")
        self.handshake_failures = names.tallies(
            "handshake_failures", "Connections that never had TLS, by reason.", "reason"
        )
        self.accept_pauses = names.tallies("accept_pauses", "Times that accepting stopped, by reason.", "reason")

    def _define_links(self, names: "_Names") -> None:
        self.links = names.gauges("links_open", "Links open, by role.", "role")
        self.links_attached = names.tallies("links_attached", "Links admitted, by role.", "role")
        self.links_ended = names.tallies("links_ended", "Links that ended, by role and reason.", "role", "reason")
        self.link_refusals = names.tallies("link_refusals", "Links refused, by outcome.", "outcome")
        self.admission_refusals = names.tallies(
            "admission_refusals", "Streams refused at admission, by outcome.", "outcome"
        )
        self.supersedes = names.tallies("links_superseded", "Links whose node has dialled a newer one.")
        self.clone_alarms = names.tallies(
            "clone_alarms", "Links refused since another process holds the same identity."
        )
        self.tokens_expired = names.tallies("listen_tokens_expired", "Links drained since their token was not renewed.")
        self.tokens_renewed = names.tallies("listen_tokens_renewed", "Listen tokens renewed over their link.")
        self.notices = names.tallies("notices", "Notices to listeners, by type and result.", "type", "result")
        self.cuts = names.tallies("cuts", "Links and calls cut by a revocation or lock, by outcome.", "outcome")
        self.cut_seconds = names.distributions(
            "cut_seconds", "Seconds from the arrival of a trust document to the last cut that it asked for."
        )

    def _define_trust(self, names: "_Names") -> None:
        self.trust_sequence = names.gauge("trust_document_sequence", "Number of the trust document in force.")
        self.trust_root_expiry = names.gauge(
            "trust_root_expiry_timestamp_seconds", "When the first of the trusted roots ends."
        )
        self.trust_heard = names.gauge(
            "trust_feed_last_heard_timestamp_seconds", "When the trust feed last said anything."
        )
        self.trust_age = names.gauge(
            "trust_age_seconds", "Since the control plane last confirmed the document in force."
        )
        self.trust_connects = names.tallies(
            "trust_feed_connects", "Attempts to follow the trust feed, by result.", "result"
        )
        self.trust_refused = names.tallies("trust_documents_refused", "Trust documents refused, by reason.", "reason")
        self.certificate_expiry = names.gauge("certificate_expiry_timestamp_seconds", "When the relay's own SVID ends.")
        self.serving_expiry = names.gauge(
            "serving_certificate_expiry_timestamp_seconds", "When the certificate that is presented ends."
        )
        self.renewals = names.tallies(
            "certificate_renewals", "Attempts to renew the relay's SVID, by result.", "result"
        )

    def _define_reports(self, names: "_Names") -> None:
        self.reports_sent = names.tallies("reports_sent", "Report items that the control plane has taken.")
        self.reports_dropped = names.tallies("reports_dropped", "Report items dropped over the bound.")
        self.reports_waiting = names.gauge("reports_waiting", "Report items that wait to be sent.")

    def _define_process(self, names: "_Names") -> None:
        self.clock_offset = names.gauge("clock_offset_seconds", "How far this clock is behind the control plane's.")
        self.memory_limit = names.gauge("memory_limit_bytes", "What the process may hold; 0 where nothing bounds it.")
        self.memory_shedding = names.gauge("memory_shedding", "1 while memory is so short that nothing new is taken.")
        self.unkept_files = names.gauge(
            "unkept_files", "Files that the disk does not take; they are tried again each second."
        )
        self.tasks = names.gauge("tasks", "Tasks of the event loop.")
        self.streams = names.gauge("streams_open", "Streams open on all links.")
        self.workers = names.gauge("workers_up", "Processes that carry calls.")
        self.worker_restarts = names.tallies("worker_restarts", "Workers that ended by themselves.")
        self.hops = names.tallies("hops", "Calls that came in at a worker other than the one that has the node's link.")
        self.loop_lag_seconds = names.distributions("event_loop_lag_seconds", "How late the event loop ran.")

    def refused(self, outcome: Outcome) -> None:
        """Count a stream refused at admission."""
        self.admission_refusals.of(outcome.metric_label).count += 1

    def workspace(self, workspace: str) -> Tally:
        """Return the tally of a workspace's calls; past the cap, the one that the rest share."""
        if workspace not in self._workspaces:
            if len(self._workspaces) >= self._max_workspaces:
                return self.workspace_calls.of(OTHER_WORKSPACES)
            self._workspaces.add(workspace)
        return self.workspace_calls.of(workspace)


class _Names:
    """Makes metrics, each with the prefix that all of the relay's have."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def tallies(self, name: str, text: str, *labels: str) -> Tallies:
        tallies = Tallies(PREFIX + name, text, labels, registry=self._registry)
        if not labels:
            tallies.of()  # shown from the start
        return tallies

    def gauges(self, name: str, text: str, *labels: str) -> Tallies:
        return Tallies(PREFIX + name, text, labels, gauge=True, registry=self._registry)

    def gauge(self, name: str, text: str) -> Gauge:
        return Gauge(PREFIX + name, text, registry=self._registry)

    def distributions(self, name: str, text: str, *labels: str) -> Distributions:
        return Distributions(PREFIX + name, text, *labels, registry=self._registry)
