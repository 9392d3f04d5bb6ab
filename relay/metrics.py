"""Every metric of the relay, by name; `docs/metrics.md` describes them and a test compares the two."""

from prometheus_client import CollectorRegistry, Gauge

from relay.tallies import Distributions, Tallies, Tally
from trunkline.channel.outcomes import Outcome

OTHER_WORKSPACES = "_other"


class RelayMetrics:
    """The numbers of one relay, in the registry that is handed in.

    Those on the data path are `Tally` objects: fetched once, added to directly. The outcome `forwarded` stands for a
    call that the node itself answered; every other outcome is one of `Outcome`, answered by the relay.
    """

    def __init__(self, registry: CollectorRegistry, *, max_workspaces: int = 100) -> None:
        self._max_workspaces = max_workspaces
        self._workspaces: set[str] = set()

        def tallies(name: str, text: str, *labels: str, gauge: bool = False) -> Tallies:
            return Tallies(f"trunkline_relay_{name}", text, labels, gauge=gauge, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"trunkline_relay_{name}", text, registry=registry)

        # The data path.
        self.calls = tallies("calls", "Calls that ended, by door and outcome.", "door", "outcome")
        self.calls_open = tallies("calls_open", "Calls in progress, by door.", "door", gauge=True)
        self.call_seconds = Distributions(
            "trunkline_relay_call_seconds",
            "Seconds from a request's head to its call's end.",
            "door",
            registry=registry,
        )
        self.bytes = tallies("body_bytes", "Bytes of bodies and raw streams passed on, by direction.", "direction")
        self.connections = tallies("connections", "TLS connections accepted.")
        self.connections_open = tallies("connections_open", "TLS connections open.", gauge=True)
        self.connections_refused = tallies("connections_refused", "Connections closed over a bound.", "reason")
        self.handshakes_open = tallies("handshakes_open", "Connections that set up TLS.", gauge=True)
        self.handshakes = tallies("handshakes", "TLS handshakes begun.")
        self.handshakes_paced = tallies("handshakes_paced", "Connections that waited since the budget was spent.")
        self.handshakes_waiting = tallies("handshakes_waiting", "Connections that wait to set up TLS.", gauge=True)
        self.handshake_failures = tallies("handshake_failures", "Connections that never had TLS, by reason.", "reason")
        self.accept_pauses = tallies("accept_pauses", "Times that accepting stopped, by reason.", "reason")
        self.streams_cut = tallies("streams_cut", "Streams reset since too many bytes were held, by bound.", "bound")
        self.held_bytes = gauge("held_bytes", "Bytes held for those who do not take them, at the last look.")
        self.deadlines = tallies("deadlines", "Connections and calls ended by a deadline, by which.", "deadline")
        self.workspace_calls = tallies(
            "workspace_calls", "Calls admitted, by workspace, the rest under _other.", "workspace"
        )

        # Links and admission.
        self.links = tallies("links_open", "Links open, by role.", "role", gauge=True)
        self.links_attached = tallies("links_attached", "Links admitted, by role.", "role")
        self.links_ended = tallies("links_ended", "Links that ended, by role and reason.", "role", "reason")
        self.link_refusals = tallies("link_refusals", "Links refused, by outcome.", "outcome")
        self.admission_refusals = tallies("admission_refusals", "Streams refused at admission, by outcome.", "outcome")
        self.supersedes = tallies("links_superseded", "Links whose node has dialled a newer one.")
        self.clone_alarms = tallies("clone_alarms", "Links refused since another process holds the same identity.")
        self.tokens_expired = tallies("listen_tokens_expired", "Links drained since their token was not renewed.")
        self.tokens_renewed = tallies("listen_tokens_renewed", "Listen tokens renewed over their link.")
        self.notices = tallies("notices", "Notices to listeners, by type and result.", "type", "result")
        self.cuts = tallies("cuts", "Links and calls cut by a revocation or lock, by outcome.", "outcome")
        self.cut_seconds = Distributions(
            "trunkline_relay_cut_seconds",
            "Seconds from the arrival of a trust document to the last cut that it asked for.",
            registry=registry,
        )

        # Trust, identity, reports, the process.
        self.trust_sequence = gauge("trust_document_sequence", "Number of the trust document in force.")
        self.trust_root_expiry = gauge(
            "trust_root_expiry_timestamp_seconds", "When the first of the trusted roots ends."
        )
        self.trust_heard = gauge("trust_feed_last_heard_timestamp_seconds", "When the trust feed last said anything.")
        self.trust_age = gauge("trust_age_seconds", "Since the control plane last confirmed the document in force.")
        self.trust_connects = tallies("trust_feed_connects", "Attempts to follow the trust feed, by result.", "result")
        self.trust_refused = tallies("trust_documents_refused", "Trust documents refused, by reason.", "reason")
        self.certificate_expiry = gauge("certificate_expiry_timestamp_seconds", "When the relay's own SVID ends.")
        self.serving_expiry = gauge(
            "serving_certificate_expiry_timestamp_seconds", "When the certificate that is presented ends."
        )
        self.clock_offset = gauge("clock_offset_seconds", "How far this clock is behind the control plane's.")
        self.renewals = tallies("certificate_renewals", "Attempts to renew the relay's SVID, by result.", "result")
        self.reports_sent = tallies("reports_sent", "Report items that the control plane has taken.")
        self.reports_dropped = tallies("reports_dropped", "Report items dropped over the bound.")
        self.reports_waiting = gauge("reports_waiting", "Report items that wait to be sent.")
        self.memory_limit = gauge("memory_limit_bytes", "What the process may hold; 0 where nothing bounds it.")
        self.memory_shedding = gauge("memory_shedding", "1 while memory is so short that nothing new is taken.")
        self.unkept_files = gauge(
            "unkept_files", "Files that the disk does not take; they are tried again each second."
        )
        self.tasks = gauge("tasks", "Tasks of the event loop.")
        self.streams = gauge("streams_open", "Streams open on all links.")
        self.workers = gauge("workers_up", "Processes that carry calls.")
        self.worker_restarts = tallies("worker_restarts", "Workers that ended by themselves.")
        self.hops = tallies("hops", "Calls that came in at a worker other than the one that has the node's link.")
        self.loop_lag_seconds = Distributions(
            "trunkline_relay_event_loop_lag_seconds", "How late the event loop ran.", registry=registry
        )

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
