"""What the relay answers itself, in place of a node: counted, logged, and in one form on connections and links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from relay.doors.entry import Door
from trunkline.channel.outcomes import Outcome, readiness_response, relay_response

if TYPE_CHECKING:
    from relay.doors.front_door import FrontDoor

RETRY_AFTER_SECONDS: Final = {Outcome.DRAINING: 1, Outcome.OVERLOADED: 2, Outcome.OVER_QUOTA: 1}
"""When a sender may ask again what was refused for a while only."""


def own_answer(
    front: FrontDoor,
    door: Door,
    outcome: Outcome,
    message: str,
    *,
    close: bool,
    request_id: str | None = None,
    head_only: bool = False,
) -> bytes:
    """The whole answer. A call that had begun has its `request_id`, and is counted where it ends; others are here."""
    if request_id is None:
        request_id = front.mint_request_id().decode("ascii")
        front.refused(door, outcome)
    front.log_outcome(outcome, message, request_id, door)
    return relay_response(
        outcome,
        message,
        request_id=request_id,
        proxy_door=door is Door.PROXY,
        close=close,
        head_only=head_only,
        retry_after_seconds=RETRY_AFTER_SECONDS.get(outcome),
    )


def readiness_answer(front: FrontDoor, *, head_only: bool) -> bytes:
    """The answer to a load balancer's question; neither counted as a call nor logged, since it comes every second."""
    return readiness_response(front.ready(), request_id=front.mint_request_id().decode("ascii"), head_only=head_only)
