"""Which build of the product runs: the Python files as they are, or the data path as `make compile` has built it."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMPILED = ROOT / "build" / "compiled" / "site"


class Build(Enum):
    """A build, by the name that the table says."""

    PURE = "pure"
    COMPILED = "compiled"

    @classmethod
    def best(cls) -> Build:
        """The compiled one, if it is there."""
        return cls.COMPILED if COMPILED.is_dir() else cls.PURE

    def environment(self) -> dict[str, str]:
        """The environment of a daemon of this build; it must not run in the checkout, whose files would come first."""
        path = str(COMPILED) if self is Build.COMPILED else str(ROOT)
        return {**os.environ, "PYTHONPATH": path}
