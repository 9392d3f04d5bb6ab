"""When and how it will be known how a command is that is UNKNOWN at present."""

from dataclasses import dataclass

from control_plane.storage.records.commands import Command

DELIVERED = "by its node's own word, as soon as it answers again; deleting the node ends it as LOST"
PERHAPS_DELIVERED = (
    "by its node's own word, as soon as it answers again: an attempt to deliver it may have arrived, though no answer "
    "to it did; deleting the node ends it as LOST"
)
NOT_DELIVERED = "its delivery is tried again until then, after which it ends as LOST without ever having run"


@dataclass(frozen=True, slots=True)
class Resolution:
    """How it will be known; `by` (milliseconds) is set only where it certainly will be by then."""

    how: str
    by: int | None = None


def resolution(command: Command) -> Resolution:
    """Return how a command that is UNKNOWN will be known again."""
    if command.delivered:
        return Resolution(DELIVERED)
    if command.maybe_delivered_until is not None:
        return Resolution(PERHAPS_DELIVERED)
    return Resolution(NOT_DELIVERED, command.deliver_before)
