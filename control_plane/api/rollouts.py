"""`rollout` in the body of a submission: how its commands are let go."""

from typing import Annotated

from pydantic import Field

from control_plane.api.problems import told_as
from control_plane.api.requests import OperatorRequest
from control_plane.fleet.submissions import MOST_NODES, RolloutOrder

MOST_WAVES = 32
LONGEST_PAUSE_SECONDS = 86_400


Share = Annotated[
    Annotated[int, Field(ge=1, le=MOST_NODES)] | Annotated[str, Field(pattern=r"^([1-9][0-9]?|100)%$")],
    told_as("must be a number of nodes, from 1 on, or from 1% to 100% of them"),
]
Budget = Annotated[
    Annotated[int, Field(ge=0, le=MOST_NODES)] | Annotated[str, Field(pattern=r"^([0-9]|[1-9][0-9]|100)%$")],
    told_as("must be a number of nodes, or from 0% to 100% of them"),
]


class RolloutBody(OperatorRequest):
    """Numbers of nodes, or `N%` of those that the target means."""

    canary: Share | None = None
    waves: list[Share] = Field(default=[], max_length=MOST_WAVES)
    max_concurrent: Share | None = None
    max_failures: Budget | None = None
    pause_seconds: float = Field(default=0.0, ge=0, le=LONGEST_PAUSE_SECONDS, allow_inf_nan=False)

    def order(self) -> RolloutOrder:
        """Return it as the submission takes it."""
        return RolloutOrder(
            canary=self.canary,
            waves=tuple(self.waves),
            max_concurrent=self.max_concurrent,
            max_failures=self.max_failures,
            pause_seconds=self.pause_seconds,
        )
