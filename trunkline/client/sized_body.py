"""Content of a request in pieces, of which the length is known: services that know no chunks take it."""

from collections.abc import AsyncIterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SizedBody:
    """Content that is sent with its length as its pieces come.

    Attributes:
        length_bytes: of all pieces together; where they are more or fewer, the call ends.
        pieces: the content, which can be taken once.
    """

    length_bytes: int
    pieces: AsyncIterable[bytes]
