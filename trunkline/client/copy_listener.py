"""What is told of a copying while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from trunkline.client.errors import TrunklineError


@dataclass(frozen=True, slots=True)
class CopyListener:
    """Is told of each file that begins and ends (its path, its size), of bytes that have passed, and of breaks."""

    begun: Callable[[str, int], None] = field(default=lambda path, size_bytes: None)
    moved: Callable[[int], None] = field(default=lambda size_bytes: None)
    resumed: Callable[[str, int], None] = field(default=lambda path, offset: None)
    ended: Callable[[str], None] = field(default=lambda path: None)
    left_out: Callable[[str, str], None] = field(default=lambda path, reason: None)
    cut: Callable[[TrunklineError], None] = field(default=lambda error: None)
