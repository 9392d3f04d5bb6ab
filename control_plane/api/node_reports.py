"""`POST /api/2.0/nodes/self/reports`: what nodes report of themselves; the form is that of relays' reports."""

import re

from aiohttp import web
from pydantic import Field

from control_plane.allowances import Allowances
from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext
from control_plane.api.reports import Item, Report
from control_plane.api.requests import Understood, read_body
from control_plane.api.responses import json_response
from control_plane.metrics import ControlPlaneMetrics
from control_plane.refusal_ledger import RefusalLedger
from control_plane.storage import node_reports
from control_plane.storage.audit import Actor
from control_plane.storage.reports import ReportItem

MOST_ITEMS = 100
LARGEST_BODY_BYTES = 128 * 1024
OTHER = "other"

_RULE = re.compile(r"[a-z]+(?:\.(?:[a-z_]+|\*)){1,4}")


class NodeReport(Report):
    """A batch of a node's, which is smaller than a relay's."""

    items: list[Understood[Item]] = Field(default=[], max_length=MOST_ITEMS)


class NodeReportResource:
    """The intake of nodes' reports."""

    def __init__(
        self, context: ApiContext, allowances: Allowances, metrics: ControlPlaneMetrics, ledger: RefusalLedger
    ) -> None:
        self._context = context
        self._allowances = allowances
        self._metrics = metrics
        self._ledger = ledger

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [Route("POST", "/api/2.0/nodes/self/reports", Role.NODE, self.take, while_locked=True)]

    async def take(self, request: web.Request, caller: Caller) -> web.Response:
        """Take a report in; sent twice, it counts once."""
        report = await read_body(request, NodeReport, largest_bytes=LARGEST_BODY_BYTES)
        items = report.understood
        self._allowances.spend(caller.subject_id, sum(item.type in node_reports.AUDITED for item in items))
        async with self._context.database.write() as session:
            new = await node_reports.take(
                session,
                caller.subject_id,
                report.reporter,
                report.sequence,
                items,
                dropped=report.lost,
                actor=caller.actor,
                workspace_id=caller.workspace_id,
                now=self._context.clock.now(),
            )
        if new:
            self._count(caller, items)
            self._metrics.reports_dropped.inc(report.lost)
        return json_response({})

    def _count(self, caller: Caller, items: list[ReportItem]) -> None:
        """Count, and have refusals audited by workspace: nodes are too many for a kind of refusal each."""
        for item in items:
            self._metrics.node_report_items.labels(node_reports.known_type(item.type)).inc(item.count)
            if item.type == "refusal" and item.count:
                action = f"node.refusal {caller.workspace_id}"
                self._ledger.record(
                    action, item.outcome, Actor(caller.actor.name), count=item.count, token_id=item.token_id
                )
            elif item.type == "command_refusal" and item.count:
                action, rule = f"node.command_refused {caller.workspace_id}", item.outcome
                reason = rule if _RULE.fullmatch(rule) else OTHER
                self._ledger.record(
                    action, reason, Actor(caller.actor.name), count=item.count, body_sha256=item.body_sha256
                )
