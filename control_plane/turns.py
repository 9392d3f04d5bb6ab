"""Turns: how many things are done for one node at once, so that a node which answers slowly holds up nobody but itself.

Whoever does something for many nodes, a bounded number at once, asks here too before each thing. What has no turn
waits, in order, until something else of its node has ended.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Turns(Generic[K]):
    """At most `most` keys of one node are under way at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way: dict[str, int] = {}
        self._waiting: dict[str, dict[K, None]] = {}

    def begin(self, node_id: str, key: K) -> bool:
        """Give the key a turn, or have it wait for one; it is then named by `end` when it may ask again."""
        waiting = self._waiting.get(node_id, {})
        if self._under_way.get(node_id, 0) >= self._most:
            self._waiting.setdefault(node_id, {}).setdefault(key)
            return False
        waiting.pop(key, None)
        self._under_way[node_id] = self._under_way.get(node_id, 0) + 1
        return True

    def end(self, node_id: str) -> K | None:
        """Take a turn back; return the key that has waited longest, which is to ask again now, or None."""
        left = self._under_way.pop(node_id) - 1
        if left:
            self._under_way[node_id] = left
        waiting = self._waiting.get(node_id)
        if not waiting:
            self._waiting.pop(node_id, None)
            return None
        key = next(iter(waiting))
        del waiting[key]
        return key
