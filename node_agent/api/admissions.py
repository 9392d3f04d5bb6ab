"""What became of submits: counted by the rule that decided, and refusals by the owner's policy reported upward."""

import hashlib

from node_agent.commands.errors import CommandRefusal
from node_agent.metrics import AgentMetrics
from node_agent.reports import Reports


class Admissions:
    """Hears of each submit that could be read."""

    def __init__(self, metrics: AgentMetrics, reports: Reports) -> None:
        self._metrics = metrics
        self._reports = reports

    def taken(self, *, new: bool) -> None:
        """Count a command that was taken, or was known already."""
        self._metrics.command_admissions.labels("taken" if new else "known").inc()

    def refused(self, refusal: CommandRefusal, body: bytes) -> None:
        """Count a refusal; one by the policy is reported with the hash of what was asked for."""
        if refusal.rule is None:
            self._metrics.command_admissions.labels(refusal.reason.name.lower()).inc()
            return
        self._metrics.command_admissions.labels(refusal.rule.value).inc()
        self._reports.command_refused(refusal.rule.value, hashlib.sha256(body).hexdigest())
