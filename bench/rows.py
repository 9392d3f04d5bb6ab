"""The rows of the table: each a figure of the relay, the same figure of nginx where there is one, and the bound."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Row:
    """One figure, measured several times.

    Attributes:
        name: what was measured.
        unit: of both figures.
        bound: what must not be exceeded: a ratio to nginx, or a figure where nginx has none.
        bound_is_ratio: which of the two.
        relay: the relay's figures, one for each repetition.
        nginx: nginx's figures, taken in turn with the relay's; empty where nginx has none.
    """

    name: str
    unit: str
    bound: float | None = None
    bound_is_ratio: bool = True
    relay: list[float] = field(default_factory=list)
    nginx: list[float] = field(default_factory=list)

    @property
    def relay_median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.relay)

    @property
    def nginx_median(self) -> float | None:
        """The yardstick's figure."""
        return statistics.median(self.nginx) if self.nginx else None

    @property
    def ratio(self) -> float | None:
        """The relay's figure in terms of nginx's: the median of the pairs, since each pair shares its moment."""
        if not self.nginx:
            return None
        return statistics.median(mine / theirs for mine, theirs in zip(self.relay, self.nginx, strict=True))

    @property
    def within(self) -> bool | None:
        """Whether the bound holds; None where there is none."""
        if self.bound is None:
            return None
        measured = self.ratio if self.bound_is_ratio else self.relay_median
        return measured is not None and measured <= self.bound

    def as_json(self) -> dict[str, Any]:
        """Everything, for the results file."""
        return asdict(self) | {
            "relay_median": self.relay_median,
            "nginx_median": self.nginx_median,
            "ratio": self.ratio,
        }


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| measured | unit | relay | nginx | ratio | bound | |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        nginx = "–" if row.nginx_median is None else _figure(row.nginx_median)
        ratio = "–" if row.ratio is None else f"{row.ratio:.2f}×"
        bound = "–" if row.bound is None else f"≤ {row.bound:g}{'×' if row.bound_is_ratio else ''}"
        verdict = {True: "yes", False: "**no**", None: ""}[row.within]
        lines.append(
            f"| {row.name} | {row.unit} | {_figure(row.relay_median)} | {nginx} | {ratio} | {bound} | {verdict} |"
        )
    return "\n".join(lines)


def _figure(value: float) -> str:
    digits = next((digits for digits, least in enumerate((100, 10, 1)) if value >= least), 3)
    return f"{value:.{digits}f}"
