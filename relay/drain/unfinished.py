"""What keeps a relay that drains from its end, as its operator sees it."""

from datetime import UTC, datetime
from typing import Any

from relay.calls.exchange import Exchange
from relay.links.registry import Registry
from relay.senders.sender_port import SenderPort

MAX_NAMED_CALLS = 100
"""Of the calls under way, those that are told one by one: the oldest."""


def unfinished(registry: Registry, port: SenderPort, *, behind_seconds: float) -> dict[str, Any]:
    """Return the numbers of connections, links and calls, and the oldest calls, as JSON members by name.

    Args:
        registry: the links.
        port: the connections.
        behind_seconds: by how much the loop's clock is behind the wall's.
    """
    calls = sorted(_calls(registry), key=lambda call: call.started_at)
    return {
        "connections": port.connections,
        "sender_links": registry.sender_links,
        "listener_links": len(registry.listeners),
        "calls_open": len(calls),
        "calls": [_told(call, behind_seconds) for call in calls[:MAX_NAMED_CALLS]],
    }


def _calls(registry: Registry) -> list[Exchange]:
    return [user for user in registry.uses.open if isinstance(user, Exchange)]


def _told(call: Exchange, behind_seconds: float) -> dict[str, Any]:
    destination = call.destination
    return {
        "request_id": call.request_id,
        "kind": call.kind.name.lower(),
        "workspace": destination.workspace,
        "node": destination.node,
        "port": destination.port,
        "start_time": datetime.fromtimestamp(call.started_at + behind_seconds, UTC).isoformat(timespec="seconds"),
    }
