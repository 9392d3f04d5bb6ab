"""One health check of one node: the call, and what its answer means."""

from dataclasses import dataclass
from typing import Any

from control_plane.fleet.health_states import CheckResult
from control_plane.fleet.node_commands import NodeAddress, NodeCommands
from control_plane.fleet.node_documents import read_node_document
from control_plane.fleet.reach import NotReachedError, UnansweredError
from control_plane.storage.text import storable
from trunkline.client.errors import TrunklineError
from trunkline.runtime.clock import Clock

LARGEST_HEALTH_BYTES = 64 * 1024
LONGEST_REASON = 1024
LARGEST_OFFSET_SECONDS = 1e12
ON_PROBATION = "answered well for the first time after an outage"
"""Why a node that is well is not online yet."""


@dataclass(frozen=True, slots=True)
class Check:
    """What a check found; `health` is what the agent said, `relay_id` where it was reached."""

    result: CheckResult
    reason: str | None = None
    health: dict[str, Any] | None = None
    rtt_seconds: float | None = None
    relay_id: str | None = None


async def check_node(nodes: NodeCommands, address: NodeAddress, timeout_seconds: float, clock: Clock) -> Check:
    """Ask a node how it is; everything that can go wrong with it is a result.

    Raises:
        StorageError: the node was not asked, since no relay is known, and the database cannot be read.
    """
    started = clock.monotonic()
    try:
        answer = await nodes.health(address, timeout_seconds)
        status = answer.response.status
        body = await answer.response.read(limit_bytes=LARGEST_HEALTH_BYTES, timeout_seconds=timeout_seconds)
    except NotReachedError as error:
        return Check(CheckResult.NOT_REACHED, storable(str(error), LONGEST_REASON))
    except (UnansweredError, TrunklineError) as error:
        return Check(CheckResult.UNANSWERED, storable(str(error), LONGEST_REASON))
    rtt_seconds = clock.monotonic() - started
    if status != 200:
        return Check(CheckResult.BAD_ANSWER, f"the agent answered {status}", None, rtt_seconds, answer.relay_id)
    return _understood(body, address, rtt_seconds, answer.relay_id)


def _understood(body: bytes, address: NodeAddress, rtt_seconds: float, relay_id: str) -> Check:
    health = read_node_document(body)
    if health is None or not isinstance(health.get("status"), str):
        return Check(CheckResult.BAD_ANSWER, "the agent's answer is not a health document", None, rtt_seconds, relay_id)
    if health.get("node_id", address.node.node_id) != address.node.node_id:
        return Check(CheckResult.BAD_ANSWER, "another node answered", None, rtt_seconds, relay_id)
    if health["status"] == "ok":
        return Check(CheckResult.OK, None, health, rtt_seconds, relay_id)
    # What is neither is a word of a later release: a node that answers is no node that is gone.
    return Check(CheckResult.DEGRADED, failing_checks(health), health, rtt_seconds, relay_id)


def failing_checks(health: dict[str, Any]) -> str:
    """Return why a node says that it is degraded: its owner's checks that fail, and its clock."""
    checks = health.get("checks")
    failing = [
        f"{check.get('name')}: {check.get('message') or check.get('status')}"
        for check in (checks if isinstance(checks, list) else [])
        if isinstance(check, dict) and check.get("status") != "ok"
    ]
    if health.get("clock_skew") is True:
        failing.append(_clock(health.get("clock_offset_seconds")))
    return storable("; ".join(failing) or f"the agent says that it is {health['status']}", LONGEST_REASON)


def _clock(offset_seconds: object) -> str:
    """Return what is wrong with a node's clock; a positive offset is that of one that is behind."""
    if not isinstance(offset_seconds, float) or abs(offset_seconds) > LARGEST_OFFSET_SECONDS:
        return "its clock is wrong"
    return f"its clock is {'behind' if offset_seconds > 0 else 'ahead'} by {abs(offset_seconds):g} s"
