"""What the commands tell whoever counts."""

from typing import Protocol

from node_agent.commands.states import CommandState


class CommandMeter(Protocol):
    """Hears of each command twice."""

    def submitted(self) -> None:
        """Hear that a command was taken."""
        ...

    def ended(self, state: CommandState) -> None:
        """Hear that a command has come to a terminal state."""
        ...
