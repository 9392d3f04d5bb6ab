"""What the owner says of shells."""

from pydantic import Field

from node_agent.rules.base import Rules, Subjects
from node_agent.rules.limits import Limits


class ShellRules(Rules):
    """Whether there are shells, whose, how many at once, for how long, and what each may use of the node.

    Without `enabled` there are shells where any command may be asked for at any time: a shell can do what commands can
    do, as the same users. Without `allowed_subjects` those of the commands count, and without `limits` the bounds of
    one command.
    """

    enabled: bool | None = None
    allowed_subjects: Subjects | None = None
    max_concurrent: int = Field(default=16, ge=1, le=1024)
    idle_seconds: float = Field(default=3600.0, ge=1)
    limits: Limits | None = None
    max_duration_seconds: float = Field(default=12 * 3600.0, ge=1)
