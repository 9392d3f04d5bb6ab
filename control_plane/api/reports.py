"""`POST /api/2.0/reports`: what relays report, counted by the hour, refusals and the grave of it audited.

A report is taken once: the sequence of its reporter (one process of a relay) only grows. What is counted is bounded by
relays times types times outcomes an hour, whatever is reported; what is written down by itself, by a rate for each.

Reporters may be of a later release: a word that is not known here is kept as it is, and an item whose form is not known
counts as dropped. The reporter would drop a batch that was refused, with all that is understood in it.
"""

from typing import Annotated, Any

from aiohttp import web
from pydantic import Field, StringConstraints

from control_plane.allowances import Allowances
from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext
from control_plane.api.requests import MachineRequest, Text, Understood, Word, read_body
from control_plane.api.responses import json_response
from control_plane.metrics import ControlPlaneMetrics
from control_plane.refusal_ledger import RefusalLedger
from control_plane.storage import reports
from control_plane.storage.adoptions import CutReport
from control_plane.storage.audit import Actor
from control_plane.storage.reports import ReportItem

MOST_ITEMS = 1000
MOST_CUTS = 100
MOST_BODIES = 8


class Cut(MachineRequest):
    """What was cut because of one revocation or lock."""

    cause: Word
    kind: Text = Field(max_length=32)
    id: Text = Field(max_length=128)
    links: int = Field(default=0, ge=0, le=2**31)
    streams: int = Field(default=0, ge=0, le=2**31)
    exchanges: int = Field(default=0, ge=0, le=2**31)


Hash = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class ShellUse(MachineRequest):
    """A shell that was opened on a node, or has ended."""

    shell_id: Text = Field(max_length=128)
    event: Word
    user: Text = Field(max_length=64)
    open_time: int = Field(ge=0, le=2**53)
    cause: Text = Field(default="", max_length=32)
    input_bytes: int = Field(default=0, ge=0, le=2**62)
    output_bytes: int = Field(default=0, ge=0, le=2**62)


class FileUse(MachineRequest):
    """What was done with a file of a node."""

    event: Word
    outcome: Word
    reason: Text = Field(default="", max_length=64)
    path: Text = Field(max_length=1024)
    user: Text = Field(default="", max_length=64)
    offset: int = Field(default=0, ge=0, le=2**63)
    size_bytes: int = Field(default=0, ge=0, le=2**63)
    sha256: Text = Field(default="", max_length=64)


class Item(MachineRequest):
    """One thing reported; `count` says how many like it."""

    type: Text = Field(max_length=64)
    time: int = Field(ge=0, le=2**53)
    outcome: Text = Field(default="", max_length=64)
    count: int = Field(default=1, ge=0, le=2**53)
    workspace_id: Text | None = Field(default=None, max_length=64)
    node_id: Text | None = Field(default=None, max_length=64)
    token_id: Text | None = Field(default=None, max_length=128)
    certificate: Text | None = Field(default=None, max_length=64)
    subject: Text | None = Field(default=None, max_length=512)
    sequence: int | None = Field(default=None, ge=0, le=2**53)
    reason: Text | None = Field(default=None, max_length=512)
    message: Text | None = Field(default=None, max_length=1024)
    cut_milliseconds: int = Field(default=0, ge=0, le=2**53)
    cuts: list[Cut] = Field(default=[], max_length=MOST_CUTS)
    root: Text | None = Field(default=None, max_length=64)
    body_sha256: list[Hash] = Field(default=[], max_length=MOST_BODIES)
    shell: ShellUse | None = None
    file: FileUse | None = None


class Report(MachineRequest):
    """A batch."""

    reporter: Text = Field(min_length=1, max_length=128)
    sequence: int = Field(ge=0, le=2**53)
    items: list[Understood[Item]] = Field(default=[], max_length=MOST_ITEMS)
    dropped: int = Field(default=0, ge=0, le=2**53)

    @property
    def understood(self) -> list[ReportItem]:
        """The items, as storage takes them."""
        return [_report_item(item) for item in self.items if item is not None]

    @property
    def lost(self) -> int:
        """How many items are not in it: those that the reporter dropped, and those that are not understood."""
        return self.dropped + self.items.count(None)


class ReportResource:
    """The intake of reports."""

    def __init__(
        self, context: ApiContext, allowances: Allowances, metrics: ControlPlaneMetrics, ledger: RefusalLedger
    ) -> None:
        self._context = context
        self._allowances = allowances
        self._metrics = metrics
        self._ledger = ledger

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [Route("POST", "/api/2.0/reports", Role.RELAY, self.take)]

    async def take(self, request: web.Request, caller: Caller) -> web.Response:
        """Take a report in; sent twice, it counts once."""
        report = await read_body(request, Report)
        items = report.understood
        self._allowances.spend(caller.subject_id, reports.records_in(items))
        async with self._context.database.write() as session:
            new = await reports.take(
                session,
                caller.subject_id,
                report.reporter,
                report.sequence,
                items,
                dropped=report.lost,
                actor=caller.actor,
                now=self._context.clock.now(),
            )
        if new:
            for item in items:
                self._metrics.report_items.labels(reports.known_type(item.type)).inc(item.count)
            self._metrics.reports_dropped.inc(report.lost)
            self._audit_refusals(caller, items)
        return json_response({})

    def _audit_refusals(self, caller: Caller, items: list[ReportItem]) -> None:
        """Count the refusals for the audit; the address that a relay reports from is nobody's who was refused."""
        for item in items:
            if item.type == "refusal" and item.count:
                action = f"relay.refusal {caller.subject_id}"
                self._ledger.record(
                    action, item.outcome, Actor(caller.actor.name), count=item.count, token_id=item.token_id
                )


def _report_item(item: Item) -> ReportItem:
    """Return an item as storage takes it."""
    fields: dict[str, Any] = item.model_dump(exclude={"cuts"})
    return ReportItem(**fields, cuts=[CutReport(**cut.model_dump()) for cut in item.cuts])
