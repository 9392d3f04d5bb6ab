"""Workspaces and their quotas."""

from __future__ import annotations

from trunkline.client.records.record import Record


class Workspace(Record):
    """A tenant."""

    workspace_id: str
    workspace: str
    creation_time: int = 0


class Quota(Record):
    """Bounds of one party at each relay; None is no bound."""

    calls_per_second: int | None = None
    concurrent_calls: int | None = None
    bytes_per_second: int | None = None


class WorkspaceQuotas(Record):
    """The bounds of a whole workspace, and those of each of its senders by itself."""

    workspace: Quota = Quota()
    sender: Quota = Quota()
