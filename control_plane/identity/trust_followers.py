"""Which relays follow the trust document at this moment: whom a change reaches at once."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from control_plane.metrics import ControlPlaneMetrics


class TrustFollowers:
    """The relays with an open feed."""

    def __init__(self, metrics: ControlPlaneMetrics) -> None:
        self._metrics = metrics
        self._feeds: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._feeds.total()

    def __contains__(self, relay_id: str) -> bool:
        return self._feeds[relay_id] > 0

    @contextmanager
    def following(self, relay_id: str) -> Iterator[None]:
        """Count one feed of a relay for the time of the block."""
        self._feeds[relay_id] += 1
        self._metrics.trust_feeds.set(len(self))
        try:
            yield
        finally:
            self._feeds[relay_id] -= 1
            self._feeds += Counter()  # what has come to nothing is forgotten
            self._metrics.trust_feeds.set(len(self))
