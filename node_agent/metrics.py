"""The agent's metrics: one registry of its own, handed in, with every name in one place."""

import itertools
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from node_agent.commands.errors import PolicyRule
from node_agent.commands.states import TERMINAL, CommandState
from node_agent.files.uses import FileEvent, FileOutcome, FileUse
from node_agent.machine import Machine
from node_agent.protection.metadata_block import BlockState
from node_agent.shells.causes import EndCause
from trunkline.version import __version__

_PREFIX = "trunkline_node_agent"


class AgentMetrics:
    """Counts what the agent does; every label value comes from a fixed set."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._define_links(registry)
        self._define_identity(registry)
        self._define_commands(registry)
        self._define_files(registry)
        self._show_all_labels()

    def _define_links(self, registry: CollectorRegistry) -> None:
        Gauge(f"{_PREFIX}_build", "Always 1; the version is a label.", ["version"], registry=registry).labels(
            __version__
        ).set(1)
        self.links = Gauge(f"{_PREFIX}_links", "Links to relays that are open.", registry=registry)
        self.link_attempts = Counter(
            f"{_PREFIX}_link_attempts_total", "Attempts to open a link, by outcome.", ["outcome"], registry=registry
        )
        for outcome in ("attached", "crowded", "failed", "refused", "clone"):
            self.link_attempts.labels(outcome)
        self.exchanges = Counter(
            f"{_PREFIX}_exchanges_total", "Streams taken, by what became of them.", ["outcome"], registry=registry
        )
        self.open_exchanges = Gauge(f"{_PREFIX}_open_exchanges", "Streams that are open.", registry=registry)
        self.cut_exchanges = Counter(
            f"{_PREFIX}_cut_exchanges_total", "Streams cut by a revocation or lock.", registry=registry
        )
        self.forwarded_bytes = Counter(
            f"{_PREFIX}_forwarded_bytes_total",
            "Bytes passed to and from services on loopback.",
            ["direction"],
            registry=registry,
        )

    def _define_identity(self, registry: CollectorRegistry) -> None:
        self.renewals = Counter(
            f"{_PREFIX}_renewals_total",
            "Steps of renewing the node's identity that were tried, by outcome.",
            ["work", "outcome"],
            registry=registry,
        )
        self.certificate_expiry = Gauge(
            f"{_PREFIX}_certificate_expiry_timestamp_seconds", "When the node's certificate ends.", registry=registry
        )
        self.token_expiry = Gauge(
            f"{_PREFIX}_listen_token_expiry_timestamp_seconds", "When the listen token ends.", registry=registry
        )
        self.trust_sequence = Gauge(
            f"{_PREFIX}_trust_document_sequence", "Number of the trust document in force.", registry=registry
        )
        self.trust_age = Gauge(
            f"{_PREFIX}_trust_age_seconds",
            "Since the control plane last confirmed the document in force.",
            registry=registry,
        )
        self.trust_fetched = Counter(
            f"{_PREFIX}_trust_documents_fetched_total",
            "Trust documents that no relay had brought, fetched from the control plane.",
            ["reason"],
            registry=registry,
        )
        self.reports_sent = Counter(
            f"{_PREFIX}_reports_sent_total", "Report items that the control plane has taken.", registry=registry
        )
        self.reports_dropped = Counter(
            f"{_PREFIX}_reports_dropped_total", "Report items dropped over the bound.", registry=registry
        )
        self.trust_root_expiry = Gauge(
            f"{_PREFIX}_trust_root_expiry_timestamp_seconds",
            "When the first of the trusted roots ends.",
            registry=registry,
        )
        self.clock_offset = Gauge(
            f"{_PREFIX}_clock_offset_seconds", "How far this clock is behind the control plane's.", registry=registry
        )

    def _define_commands(self, registry: CollectorRegistry) -> None:
        self.commands_submitted = Counter(f"{_PREFIX}_commands_submitted_total", "Commands taken.", registry=registry)
        self.commands_ended = Counter(
            f"{_PREFIX}_commands_ended_total", "Commands ended, by final state.", ["state"], registry=registry
        )
        self.running_commands = Gauge(f"{_PREFIX}_running_commands", "Commands that run.", registry=registry)
        self.queued_commands = Gauge(f"{_PREFIX}_queued_commands", "Commands that wait.", registry=registry)
        self.shells_opened = Counter(f"{_PREFIX}_shells_opened_total", "Shells opened.", registry=registry)
        self.shells_ended = Counter(
            f"{_PREFIX}_shells_ended_total", "Shells ended, by cause.", ["cause"], registry=registry
        )
        self.shells_running = Gauge(f"{_PREFIX}_running_shells", "Shells that run.", registry=registry)
        self.shell_bytes = Counter(
            f"{_PREFIX}_shell_bytes_total", "Bytes of shells that have ended.", ["direction"], registry=registry
        )
        self.secrets_held = Gauge(f"{_PREFIX}_secrets", "Workspace secrets held in memory.", registry=registry)
        self.secret_fetches = Counter(
            f"{_PREFIX}_secret_fetches_total",
            "Questions for secrets to the control plane, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.secret_uses = Counter(
            f"{_PREFIX}_secret_uses_total", "Commands that named secrets, by outcome.", ["outcome"], registry=registry
        )
        self.command_admissions = Counter(
            f"{_PREFIX}_command_admissions_total",
            "Submits of commands, by what decided: taken, known, a rule of the owner's, or another reason.",
            ["decision"],
            registry=registry,
        )
        self.metadata_block = Gauge(
            f"{_PREFIX}_metadata_block",
            "How far commands are kept from the cloud's metadata service: 1 for what holds.",
            ["state"],
            registry=registry,
        )
        self.ready = Gauge(f"{_PREFIX}_ready", "1 while the node takes commands.", registry=registry)
        self.init_scripts = Counter(
            f"{_PREFIX}_init_scripts_total", "Init scripts that ended, by final state.", ["state"], registry=registry
        )
        self.loop_lag = Histogram(
            f"{_PREFIX}_event_loop_lag_seconds",
            "By how much the event loop ran late, measured twice a second.",
            buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2.0),
            registry=registry,
        )

    def _define_files(self, registry: CollectorRegistry) -> None:
        self.files = Counter(
            f"{_PREFIX}_files_total",
            "What was done with files for callers, by how it ended.",
            ["event", "outcome"],
            registry=registry,
        )
        self.file_bytes = Counter(
            f"{_PREFIX}_file_bytes_total", "Bytes of files that were copied.", ["direction"], registry=registry
        )
        self.files_running = Gauge(f"{_PREFIX}_running_files", "Requests about files that run.", registry=registry)

    def _show_all_labels(self) -> None:
        """Have every series there from the start, so that what has not happened yet is 0 and not absent."""
        for state in TERMINAL:
            self.commands_ended.labels(state.value.lower())
            self.init_scripts.labels(state.value.lower())
        for outcome in ("taken", "unchanged", "refused", "failed"):
            self.secret_fetches.labels(outcome)
        for reason in ("withheld", "unlinked"):
            self.trust_fetched.labels(reason)
        for outcome in ("given", "missing", "refused", "failed"):
            self.secret_uses.labels(outcome)
        for decision in ("taken", "known", *(rule.value for rule in PolicyRule)):
            self.command_admissions.labels(decision)
        for block_state in BlockState:
            self.metadata_block.labels(block_state.value)
        for cause in EndCause:
            self.shells_ended.labels(cause.value)
        for direction in ("input", "output"):
            self.shell_bytes.labels(direction)
        self._show_labels_of_files()
        for direction in ("to_service", "from_service"):
            self.forwarded_bytes.labels(direction)

    def _show_labels_of_files(self) -> None:
        for event, ended in itertools.product(FileEvent, FileOutcome):
            if (event is FileEvent.REFUSED) is (ended is FileOutcome.REFUSED):
                self.files.labels(event.value, ended.value)
        for direction in ("read", "written"):
            self.file_bytes.labels(direction)

    def submitted(self) -> None:
        """Count a command that was taken."""
        self.commands_submitted.inc()

    def shell_opened(self) -> None:
        """Count a shell that was opened."""
        self.shells_opened.inc()

    def shell_ended(self, cause: EndCause, *, input_bytes: int, output_bytes: int) -> None:
        """Count a shell that has ended, and what it read and showed."""
        self.shells_ended.labels(cause.value).inc()
        self.shell_bytes.labels("input").inc(input_bytes)
        self.shell_bytes.labels("output").inc(output_bytes)

    def file_used(self, use: FileUse) -> None:
        """Count what was done with files."""
        self.files.labels(use.event.value, use.outcome.value).inc()
        if use.event in (FileEvent.READ, FileEvent.WRITTEN):
            passed = use.size_bytes - (use.offset if use.event is FileEvent.WRITTEN else 0)
            self.file_bytes.labels(use.event.value).inc(max(0, passed))

    def secrets_used(self, outcome: str) -> None:
        """Count what came of a command's secrets."""
        self.secret_uses.labels(outcome).inc()

    def metadata_blocked(self, state: BlockState) -> None:
        """Show how far commands are kept from the metadata service."""
        for one in BlockState:
            self.metadata_block.labels(one.value).set(1 if one is state else 0)

    def ended(self, state: CommandState) -> None:
        """Count a command that has come to a terminal state."""
        self.commands_ended.labels(state.value.lower()).inc()


class MachineCollector(Collector):
    """Exports the machine's state; it is read when somebody asks."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def collect(self) -> Iterable[Metric]:
        """Return the families of this moment."""
        reading = self._machine.read()
        load = GaugeMetricFamily(f"{_PREFIX}_machine_load", "Load average of the machine.", labels=["minutes"])
        for minutes, value in zip(("1", "5", "15"), reading.load, strict=True):
            load.add_metric([minutes], value)
        yield load
        plain = {
            "memory_total_bytes": ("Memory of the machine.", reading.memory_total_bytes),
            "memory_available_bytes": ("Memory that can be had without swapping.", reading.memory_available_bytes),
            "disk_total_bytes": ("Size of the disk that holds the state directory.", reading.disk_total_bytes),
            "disk_free_bytes": ("Free space on that disk.", reading.disk_free_bytes),
            "boot_time_timestamp_seconds": ("When the machine was booted.", self._machine.boot_time),
        }
        for name, (documentation, value) in plain.items():
            yield GaugeMetricFamily(f"{_PREFIX}_machine_{name}", documentation, value=value)
        pressure = GaugeMetricFamily(
            f"{_PREFIX}_machine_pressure_ratio",
            "Share of the last ten seconds in which some tasks, or all, waited for the resource.",
            labels=["resource", "kind"],
        )
        for resource, kinds in reading.pressure.items():
            for kind, averages in (kinds or {}).items():
                pressure.add_metric([resource, kind], averages["avg10"] / 100)
        yield pressure
