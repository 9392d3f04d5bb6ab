"""Examples at the end of a command's `--help`."""

from __future__ import annotations

_AS_IT_IS = "\b\n"
"""Before a paragraph whose lines click is not to fill."""


def examples(*lines: str) -> str:
    """An epilog that shows these command lines as they are typed, `trunkline` in front where they do not have it."""
    typed = [line if " trunkline " in line else f"trunkline {line}" for line in lines]
    return f"{_AS_IT_IS}Examples:\n" + "\n".join(f"  {line}" for line in typed)
