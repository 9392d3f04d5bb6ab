"""A command's output as its reader gets it: every byte once, in order, whatever breaks on the way.

Theory of operation. The offset of the next byte is all that there is to remember. A connection that ends without the
last chunk was cut, and is made again at that offset. One on which nothing comes for `SILENCE_SECONDS` may be dead
without anybody having said so (a NAT that forgot it, a host that vanished), so it is made again too, which costs one
request; that the service answered it is progress. Without progress for two minutes (`Resumption`) the last error is
raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal, Protocol

from trunkline.client.api_transport import Query, StreamedBody
from trunkline.client.errors import ApiError, DeadlineExceeded, OutputNotKept, TrunklineError
from trunkline.client.resumption import Resumption

OutputStream = Literal["stdout", "stderr"]
SILENCE_SECONDS = 30.0
_OFFSET_FIELD = "Trunkline-Offset"
_SIZE_FIELD = "Trunkline-Size"
_CUT_FIELD = "Trunkline-Cut"


@dataclass(frozen=True, slots=True)
class OutputRange:
    """Which bytes: from `offset` on, or the last `tail_bytes`; `length_bytes` of them at most.

    With `follow`, those too that are still to come, until the command has ended. With `kept`, what the control plane
    has kept is enough, though the node, that does not answer just now, may have more.
    """

    offset: int = 0
    tail_bytes: int | None = None
    length_bytes: int | None = None
    follow: bool = False
    kept: bool = False


@dataclass(frozen=True, slots=True)
class OutputPart:
    """Some bytes of an output, where they begin, and how large the whole was when they were read."""

    content: bytes
    offset: int
    size_bytes: int


class Opening(Protocol):
    """What is needed of `ApiTransport`."""

    def stream(
        self, path: str, *, query: Query | None = None, head_seconds: float | None = None
    ) -> AbstractAsyncContextManager[StreamedBody]:
        """Open the body of a GET."""
        ...


class OutputReader:
    """One reading of one output.

    Attributes:
        offset: the offset of the next byte; of a tail it is known once the first byte has come.
        size_bytes: how large the output was when it was last opened, if the service said so.
    """

    def __init__(
        self,
        transport: Opening,
        path: str,
        stream: OutputStream,
        wanted: OutputRange,
        *,
        on_cut: Callable[[OutputNotKept], None] | None = None,
    ) -> None:
        """Make a reader; `on_cut` is told of bytes that were not kept, which is an error without it."""
        self._on_cut = on_cut
        self._transport = transport
        self._path = path
        self._stream = stream
        self._wanted = wanted
        self._left = wanted.length_bytes
        self._opened = False
        self.offset = wanted.offset
        self.size_bytes: int | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        """The bytes as they come.

        Raises:
            ApiError: there is no such command or no such output, or the range begins beyond its end (416).
            OutputNotKept: bytes are missing here, and there is no `on_cut`.
            TrunklineError: nothing came, and nobody answered, for two minutes.
        """
        resumption = Resumption()
        while True:
            try:
                async for piece in self._read():
                    resumption.progress()
                    yield piece
            except _Silent:
                resumption.progress()
            except OutputNotKept as cut:
                self._pass(cut)
            except TrunklineError as error:
                await resumption.wait_or_raise(error)
            else:
                return

    async def _read(self) -> AsyncIterator[bytes]:
        if self._left == 0 and self._opened:
            return
        async with self._transport.stream(self._path, query=self._query(), head_seconds=SILENCE_SECONDS) as body:
            cut = self._note_opened(body)
            pieces = aiter(body.pieces)
            while piece := await _next(pieces, follow=self._wanted.follow):
                self.offset += len(piece)
                self._left = None if self._left is None else max(0, self._left - len(piece))
                yield piece
            if cut is not None and cut.begin == self.offset and self._left != 0:
                raise cut

    def _pass(self, cut: OutputNotKept) -> None:
        """Go on behind bytes that were not kept."""
        if self._on_cut is None:
            raise cut
        self._on_cut(cut)
        missing = cut.end - cut.begin
        self.offset = cut.end
        self._left = None if self._left is None else max(0, self._left - missing)

    def _query(self) -> dict[str, str | int | None]:
        begun = self._opened or self._wanted.tail_bytes is None
        return {
            "stream": self._stream,
            "offset": self.offset if begun else None,
            "tail": None if begun else self._wanted.tail_bytes,
            "length": self._left,
            "follow": "true" if self._wanted.follow else None,
            "kept": "true" if self._wanted.kept else None,
        }

    def _note_opened(self, body: StreamedBody) -> OutputNotKept | None:
        """Take note of where the bytes begin; returns what of those asked for is not kept, if it comes behind them.

        Raises:
            OutputNotKept: it comes before them.
        """
        self.size_bytes = _number(body.field(_SIZE_FIELD), self.size_bytes)
        begins_at = _number(body.field(_OFFSET_FIELD), self.offset) or 0
        cut = _cut_in(body.field(_CUT_FIELD))
        if not self._opened:
            self.offset = begins_at if cut is None or cut.end != begins_at else cut.begin
        self._opened = True
        if cut is not None and cut.begin == self.offset and cut.end == begins_at:
            raise cut
        return cut


class _Silent(Exception):  # noqa: N818 - what happened
    """The stream was opened, and nothing came on it for long."""


async def _next(pieces: AsyncIterator[bytes], *, follow: bool) -> bytes:
    """The next piece, or empty bytes at the end."""
    try:
        async with asyncio.timeout(SILENCE_SECONDS):
            return await anext(pieces, b"")
    except TimeoutError:
        if follow:
            raise _Silent from None
        raise DeadlineExceeded(f"nothing of the output came for {SILENCE_SECONDS:g} s") from None


def beyond_the_end(error: TrunklineError) -> bool:
    """Whether the error says that the range begins beyond the end of the output."""
    return isinstance(error, ApiError) and error.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


def _cut_in(text: str) -> OutputNotKept | None:
    begin, _, end = text.partition("-")
    first, last = _number(begin, None), _number(end, None)
    return OutputNotKept(first, last) if first is not None and last is not None and first < last else None


def _number(text: str, otherwise: int | None) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else otherwise
