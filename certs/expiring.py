"""What was made of credentials, kept by their text until they expire, in bounded memory."""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

V = TypeVar("V")

LOOKS: Final = 2
"""Two for each new entry: of those kept, no more than about half have expired."""


class ExpiringEntries(Generic[V]):
    """A dictionary of at most `most` entries, from which the expired ones go as new ones come.

    Each new entry pays for a look at the two oldest: an expired one is dropped, a live one goes to the end of the line.
    So memory follows the credentials that live and not all that there were, without a sweep that takes time at once.
    Where too many live, the next in the line goes.
    """

    __slots__ = ("_expires_at", "_most", "entries")

    def __init__(self, most: int, expires_at: Callable[[V], float]) -> None:
        """`expires_at` tells of a value when its credential ends, in seconds since the epoch."""
        self._most = most
        self._expires_at = expires_at
        self.entries: dict[str, V] = {}
        """By the credential's text; to be read, and entries to be taken out."""

    def put(self, key: str, value: V, now: float) -> None:
        """Keeps a value; `now` is in seconds since the epoch."""
        entries = self.entries
        for _ in range(min(LOOKS, len(entries))):
            oldest = next(iter(entries))
            kept = entries.pop(oldest)
            if self._expires_at(kept) > now:
                entries[oldest] = kept
        if key not in entries and len(entries) >= self._most:
            del entries[next(iter(entries))]
        entries[key] = value
