"""The audit."""

from __future__ import annotations

from pydantic import ConfigDict

from trunkline.client.records.record import Record


class AuditEvent(Record):
    """One line of the audit table; the columns beside these are in ``extra``."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    event_id: str | int = ""
    time: int = 0
