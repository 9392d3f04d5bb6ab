"""The kinds of uses of a credential; not compiled, since an enumeration's members with attributes cannot be."""

from enum import Enum


class UseKind(Enum):
    """What stands on a credential, with the name that a cut of it is counted under."""

    LISTENER = "listener", "links"
    SENDER = "sender", "links"
    STREAM = "stream", "streams"
    EXCHANGE = "exchange", "exchanges"

    def __init__(self, _: str, counted_as: str) -> None:
        self.counted_as = counted_as

    @property
    def is_link(self) -> bool:
        """Whether calls may be carried by it."""
        return self.counted_as == "links"
