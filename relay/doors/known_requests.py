"""Requests that were understood before: by all the bytes of their heads, or by all that means anything to the relay.

A head is compared with the last head that was parsed and had the same start line: where they differ, if at all, in
lines only that mean nothing to the relay, its request is made like the other's (see `ForwardedRequest.alike`). One that
is not like that, as of another sender of the same path, is known by its bytes once they came twice. These are looked up
last, since the hash of a whole head costs half as much as making a request, and is of no use where all heads differ.
"""

from __future__ import annotations

from typing import Final

from relay.doors.forwarded_request import ForwardedRequest
from trunkline.channel.memo import Generations, Marks

KNOWN_HEADS: Final = 512
MAX_KNOWN_HEAD_BYTES: Final = 4096
SEEN_HEADS_BITS: Final = 13


class KnownRequests:
    """What is remembered of requests that come in one way: on connections, or on streams of links.

    Attributes:
        whole: requests by all the bytes of their heads, of those that were parsed.
    """

    __slots__ = ("_by_start", "_seen", "_start_bytes", "whole")

    def __init__(self) -> None:
        self.whole: Generations[bytes, ForwardedRequest] = Generations(KNOWN_HEADS)
        self._by_start: Generations[bytes, ForwardedRequest] = Generations(KNOWN_HEADS)
        self._start_bytes = 0
        self._seen = Marks(SEEN_HEADS_BITS)

    def find(self, raw: bytes, last: ForwardedRequest | None = None) -> ForwardedRequest | None:
        """The request of a whole head; None if it has to be parsed, or if the bytes are no whole head.

        Args:
            raw: the bytes.
            last: a request that it may be like, to be looked at first.
        """
        if len(raw) > MAX_KNOWN_HEAD_BYTES:
            return None
        request = _like(last, raw) if last is not None else None
        if request is None:
            model = self._model(raw)
            request = _like(model, raw) if model is not None and model is not last else None
        return request if request is not None else self.whole.get(raw)

    def keep(self, raw: bytes, request: ForwardedRequest) -> None:
        """Remembers a request that has just been parsed, from a head of at most `MAX_KNOWN_HEAD_BYTES`, no content."""
        self._by_start.put(_start(raw), request)
        if self._seen.add(hash(raw)):
            self.whole.put(raw, request)

    def _model(self, raw: bytes) -> ForwardedRequest | None:
        """The request with the same start line: most are as long as the last, and looking for the end costs more."""
        model = self._by_start.get(raw[: self._start_bytes])
        if model is None:
            start = _start(raw)
            self._start_bytes = len(start)
            model = self._by_start.get(start)
        return model

    def age(self) -> None:
        """Forgets what has not been asked for since the time before the last."""
        self.whole.age()
        self._by_start.age()


def _like(model: ForwardedRequest, raw: bytes) -> ForwardedRequest | None:
    return model if model.raw == raw else model.alike(raw)


def _start(raw: bytes) -> bytes:
    return raw[: raw.find(b"\r\n")]
