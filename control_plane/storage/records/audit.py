"""The audit."""

from typing import Any

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.storage.records.record import COUNTER, Record


class AuditEvent(Record):
    """Who did what and what came of it; triggers refuse every UPDATE, and for 30 days every DELETE."""

    __tablename__ = "audit_events"
    __table_args__ = (
        Index(None, "action", "event_id"),
        Index(None, "actor", "event_id"),
        Index(None, "workspace_id", "event_id"),
    )

    event_id: Mapped[int] = mapped_column(COUNTER, primary_key=True, autoincrement=True)
    time: Mapped[int] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(String(512))
    action: Mapped[str]
    outcome: Mapped[str]
    resource: Mapped[str | None] = mapped_column(String(512))
    workspace_id: Mapped[str | None]
    request_id: Mapped[str | None]
    source_address: Mapped[str | None]
    details: Mapped[dict[str, Any]]
