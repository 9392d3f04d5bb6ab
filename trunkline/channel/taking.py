"""Whether a peer takes anything of what waits for it, by how much is left whenever somebody looks."""


class Taking:
    """What is known of one peer. More may be written meanwhile, which hides what it takes: look several times."""

    __slots__ = ("_left_bytes", "_since")

    def __init__(self, left_bytes: int, now: float) -> None:
        self._left_bytes = left_bytes
        self._since = now

    def idle_seconds(self, left_bytes: int, now: float) -> float:
        """Note how much is left now; return for how long it has not been less than at the look before."""
        if left_bytes < self._left_bytes:
            self._since = now
        self._left_bytes = left_bytes
        return now - self._since
