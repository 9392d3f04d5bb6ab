"""The answer of a node to one call, with its body as it arrives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

from trunkline.client.errors import ApiError, BadResponse, DeadlineExceeded
from trunkline.client.exchange import Exchange

READ_LIMIT_BYTES = 16_777_216
READ_TIMEOUT_SECONDS = 60.0
LARGEST_ERROR_BYTES = 65_536


class NodeResponse:
    """Status and fields of an answer, and its body, which is read once: with `read`, `json` or ``async for``.

    A body that is not read to its end holds its stream: use ``async with``, or call `close`. Leaving the block early
    resets the stream, which cancels the handler at the node.

    Attributes:
        status: the HTTP status.
        fields: names and values as they came, in order.
    """

    def __init__(
        self, status: int, fields: list[tuple[str, str]], exchange: Exchange, upload: asyncio.Task[None] | None = None
    ) -> None:
        self.status = status
        self.fields = fields
        self._exchange = exchange
        self._upload = upload

    def get(self, name: str, default: str = "") -> str:
        """The first field of that name, in any case."""
        wanted = name.lower()
        return next((value for field, value in self.fields if field.lower() == wanted), default)

    async def read(
        self, *, limit_bytes: int = READ_LIMIT_BYTES, timeout_seconds: float | None = READ_TIMEOUT_SECONDS
    ) -> bytes:
        """The rest of the body.

        Raises:
            BadResponse: it is larger than `limit_bytes`.
            DeadlineExceeded: it did not end within `timeout_seconds`; the stream was reset.
            CallInterrupted: the stream or its link was lost.
        """
        body = bytearray()
        try:
            async with asyncio.timeout(timeout_seconds):
                async for chunk in self:
                    body += chunk
                    if len(body) > limit_bytes:
                        raise BadResponse(f"the answer is larger than {limit_bytes} bytes")
        except TimeoutError:
            raise DeadlineExceeded(f"the answer did not end within {timeout_seconds:g} s") from None
        finally:
            await self.close()
        return bytes(body)

    async def json(self, **limits: Any) -> Any:
        """The body as JSON; takes what `read` takes.

        Raises:
            BadResponse: it is not JSON.
        """
        body = await self.read(**limits)
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise BadResponse(f"the answer of status {self.status} is not JSON") from None

    def chunks(self) -> AsyncIterator[bytes]:
        """The body piece by piece as it arrives.

        There is no deadline of its own, since a followed output may be silent for hours: a dead link is found by its
        keep-alive, and ends this with `CallInterrupted`. Whoever gives up the wait for a piece, by a timeout say, may
        ask for it again: nothing is lost by that, and it is not the end.
        """
        return _Chunks(self._exchange)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.chunks()

    async def close(self) -> None:
        """Give the stream back; a body that has not ended is cut off by a reset."""
        self._exchange.cancel()
        if self._upload is not None and not self._upload.done():
            self._upload.cancel()
            await asyncio.wait([self._upload])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _Chunks:
    """The pieces of a body; a generator would have ended with the first wait that was given up."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._exchange.next_chunk()
        if not chunk:
            raise StopAsyncIteration
        return chunk


async def read_error(response: NodeResponse, summary: str) -> ApiError:
    """The error document of a node's agent as an error; `summary` stands for what it does not say."""
    try:
        document = json.loads(await response.read(limit_bytes=LARGEST_ERROR_BYTES))
    except (ValueError, RecursionError):
        document = None
    known = document if isinstance(document, dict) else {}
    message = str(known.get("message") or f"{summary} with status {response.status}")
    details = known.get("details")
    added = [details] if isinstance(details, dict) else []
    return ApiError(response.status, str(known.get("error_code", "")), message, details=added)
