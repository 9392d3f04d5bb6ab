"""Rollouts: how the commands of one submission to several nodes are let go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rollout:
    """Waves, a bound on how many run at once, and an error budget, each a number of nodes or a share such as ``"25%"``.

    Attributes:
        canary: the size of a first wave, which has to succeed on each of its nodes.
        waves: the sizes of the waves after it; the last one is that of all that follow.
        max_concurrent: how many commands may be under way at once; None for a whole wave.
        max_failures: how many may fail; one more stops what was not sent. None for none where there are waves, else for
            any number.
        pause_seconds: how long to wait between waves, a day at most.
    """

    canary: int | str | None = None
    waves: Sequence[int | str] = ()
    max_concurrent: int | str | None = None
    max_failures: int | str | None = None
    pause_seconds: float | None = None

    def document(self) -> dict[str, Any]:
        """The rollout as the API takes it; what is not set is left out."""
        document: dict[str, Any] = {
            "canary": self.canary,
            "waves": list(self.waves) or None,
            "max_concurrent": self.max_concurrent,
            "max_failures": self.max_failures,
            "pause_seconds": self.pause_seconds,
        }
        return {name: value for name, value in document.items() if value is not None}
