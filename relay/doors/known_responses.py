"""Responses whose heads were understood before: those of one door, and of one way to end a call.

What a node says again and again is most often what some node has just said, and is compared with that at first: one
comparison tells where the head ends, and what was made of it.
"""

from __future__ import annotations

from typing import Final

from relay.doors.forwarding import ForwardedResponse
from trunkline.channel.fields import HEAD_END
from trunkline.channel.memo import Generations

KNOWN_HEADS: Final = 512


class KnownResponses:
    """What was made of whole heads, by their bytes."""

    __slots__ = ("_last", "_whole")

    def __init__(self) -> None:
        self._whole: Generations[bytes, ForwardedResponse] = Generations(KNOWN_HEADS)
        self._last: ForwardedResponse | None = None

    def find(self, data: bytes) -> ForwardedResponse | None:
        """The response whose whole head the bytes begin with; None if it is not known."""
        last = self._last
        if last is not None and data.startswith(last.raw):
            return last
        response = self._whole.get(data[: data.find(HEAD_END) + len(HEAD_END)])
        if response is not None:
            self._last = response
        return response

    def keep(self, raw: bytes, response: ForwardedResponse) -> None:
        """Remembers what was made of a whole head."""
        response.raw = raw
        self._whole.put(raw, response)
        self._last = response

    def age(self) -> None:
        """Forgets what has not been asked for since the time before the last."""
        self._whole.age()
        self._last = None
