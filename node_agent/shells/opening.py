"""What is remembered of a shell from its opening on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Opening:
    """What was opened, by whom, as which user of the node, and when (seconds since the epoch)."""

    shell_id: str
    subject: str
    token_id: str
    fingerprint: str
    user: str
    terminal: bool
    time: float
