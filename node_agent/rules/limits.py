"""Limits of one command: what it may use of the node, as the owner bounds it and as a submitter asks for it."""

from typing import Any, Self

from pydantic import Field, model_validator

from node_agent.rules.base import Rules

MEGABYTE = 1024**2
MOST_PROCESSES = 4096


class Limits(Rules):
    """Bounds, each None where there is none: bytes, processes and threads, percent of one processor, descriptors."""

    memory_bytes: int | None = Field(default=None, ge=4 * MEGABYTE, le=2**50)
    processes: int | None = Field(default=None, ge=1, le=2**22)
    cpu_percent: int | None = Field(default=None, ge=1, le=100 * 4096)
    open_files: int | None = Field(default=None, ge=16, le=2**20)

    def within(self, most: "Limits") -> "Limits":
        """Return these limits where they are narrower than `most`, and that where they are not."""
        own, bound = self.model_dump(), most.model_dump()
        return Limits.model_construct(**{name: _narrower(own[name], bound[name]) for name in own})

    def or_else(self, default: "Limits") -> "Limits":
        """Return these limits, and the default where there is none."""
        own, other = self.model_dump(), default.model_dump()
        return Limits.model_construct(**{name: other[name] if own[name] is None else own[name] for name in own})


class AskedLimits(Limits):
    """What a submitter asks for; `output_bytes` is of stdout and of stderr each."""

    output_bytes: int | None = Field(default=None, ge=1024, le=2**50)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if all(value is None for value in self.model_dump().values()):
            raise ValueError("name at least one limit, or leave limits out")
        return self


def _narrower(one: Any, other: Any) -> Any:
    return other if one is None else one if other is None else min(one, other)
