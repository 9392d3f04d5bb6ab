"""What is new in a submission that is looked at again and again."""

from __future__ import annotations

from collections.abc import Sequence

from trunkline.client.records.commands import Command, CommandState
from trunkline.client.submissions import Standing


class FleetChanges:
    """Remembers what was seen last."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[object, ...]] = {}
        self._wave = 0

    def commands(self, standing: Standing) -> list[Command]:
        """The commands that are new, or whose state or reason is."""
        changed = []
        for command in standing.commands:
            now = (command.state, command.reason, command.held)
            if self._seen.get(command.command_id) != now:
                self._seen[command.command_id] = now
                changed.append(command)
        return changed

    def waves(self, standing: Standing) -> range:
        """The waves that have begun since the last time, counted from 1."""
        rollout = standing.submission.rollout
        before, self._wave = self._wave, rollout.wave if rollout is not None else 0
        return range(before + 1, self._wave + 1)


def never_began(command: Command) -> bool:
    """Whether the command ended before its node had begun it."""
    return command.state in (CommandState.CANCELLED, CommandState.LOST) and command.start_time is None


def never_sent(standing: Standing) -> Sequence[Command]:
    """The commands that a stop kept from their nodes."""
    if standing.submission.stop_reason is None:
        return []
    return [one for one in standing.commands if one.state is CommandState.CANCELLED and one.start_time is None]
