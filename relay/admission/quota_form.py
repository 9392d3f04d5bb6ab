"""Quotas as the control plane states them: what a workspace, and each of its senders, may ask of one relay.

Each relay counts for itself: with two relays a workspace has twice its quota.
"""

import json
from dataclasses import dataclass
from typing import Any

MAX_BOUND = 2**53 - 1
MAX_WORKSPACES = 20_000


class QuotaError(Exception):
    """What was sent states no quotas."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Bounds; None is no bound. Bytes are those of requests' and responses' content, in both directions together."""

    calls_per_second: int | None = None
    concurrent_calls: int | None = None
    bytes_per_second: int | None = None


@dataclass(frozen=True, slots=True)
class WorkspaceQuotas:
    """The bounds of a whole workspace, and those of each of its senders by itself (a token's `sub`)."""

    workspace: Quota = Quota()
    sender: Quota = Quota()


UNBOUNDED = WorkspaceQuotas()


def read_quotas(text: str) -> dict[str, WorkspaceQuotas]:
    """Return quotas by workspace id, of their JSON form; members that are unknown are ignored.

    Raises:
        QuotaError: the text is not of that form.
    """
    try:
        stated = json.loads(text)
    except (ValueError, RecursionError):
        raise QuotaError("it is not JSON") from None
    if not isinstance(stated, dict) or len(stated) > MAX_WORKSPACES:
        raise QuotaError("it is not an object of workspaces, or of too many")
    return {workspace_id: _read_workspace(entry) for workspace_id, entry in stated.items()}


def _read_workspace(entry: object) -> WorkspaceQuotas:
    if not isinstance(entry, dict):
        raise QuotaError("a workspace's quotas are not an object")
    return WorkspaceQuotas(_read(entry.get("workspace", {})), _read(entry.get("sender", {})))


def _read(entry: object) -> Quota:
    if not isinstance(entry, dict):
        raise QuotaError("a quota is not an object")
    return Quota(_bound(entry.get("calls_per_second")), _bound(entry.get("concurrent_calls")),
                 _bound(entry.get("bytes_per_second")))  # fmt: skip


def _bound(value: Any) -> int | None:
    if value is not None and (type(value) is not int or not 0 < value <= MAX_BOUND):
        raise QuotaError("a bound is not a positive number")
    return value
