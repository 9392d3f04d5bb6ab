"""Reading a command's output at its node, taken up again where it broke, until its true end.

A stream to a node ends badly whenever a relay or an agent is restarted. It is then opened again at the offset reached,
as often as is needed, until nothing has come for `RESUME_SECONDS`. A stream that ends well while it follows a command
proves little, since an agent that stops ends its streams too: only a command that is known to have ended has ended,
and only once all the bytes that its node counted have been read. A node that has them no more, or lies, and answers
without them, is asked for them for `OWED_SECONDS`. Where the node is, is looked up each time, so that
nobody waits for one that was deleted meanwhile.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from control_plane.errors import ApiError, ErrorCode
from control_plane.fleet.node_commands import NodeAddress, NodeCommands
from control_plane.fleet.reach import NodeAnswer, NotReachedError, UnansweredError
from trunkline.client.errors import TrunklineError

RESUME_SECONDS = 30.0
OWED_SECONDS = 10.0
"""Less than readers wait for a byte, before they ask anew: they hear that none comes."""
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 2.0
LARGEST_REFUSAL_BYTES = 64 * 1024
REFUSAL_SECONDS = 10.0
SIZE_FIELD = "Trunkline-Size"
_BEYOND_ANY_END = 2**53 - 1

WholeSize = Callable[[], Awaitable[int | None]]
"""Gives how many bytes there are in all once the command has ended, and None until then."""
FindAddress = Callable[[], Awaitable[NodeAddress]]
"""Gives where the node is; raises ApiError once it was deleted."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which bytes of which command: from `offset` on, or the last `tail_bytes`; `length_bytes` of them at most."""

    find_address: FindAddress
    command_id: str
    stream: str
    offset: int = 0
    tail_bytes: int | None = None
    length_bytes: int | None = None
    follow: bool = False


class NodeOutput:
    """One reading; use it as an asynchronous context manager, which lets go of the node at the end.

    Attributes:
        offset: the offset of the next byte.
        size_bytes: how large the output was when it was opened, if the node said so.
    """

    def __init__(self, nodes: NodeCommands, wanted: Wanted, whole_size: WholeSize) -> None:
        self._nodes = nodes
        self._wanted = wanted
        self._whole_size = whole_size
        self._answer: NodeAnswer | None = None
        self._left = wanted.length_bytes
        self.offset = wanted.offset
        self.size_bytes: int | None = None

    async def __aenter__(self) -> Self:
        """Open the stream.

        Raises:
            ApiError: the node cannot be asked, has no such output, or `offset` lies beyond its end.
        """
        if self._wanted.tail_bytes is not None:
            self.offset = max(0, await self._size() - self._wanted.tail_bytes)
        self._answer = await self._open()
        self.size_bytes = size_in(self._answer)
        if not self._wanted.follow and self.size_bytes is not None:
            there = max(0, self.size_bytes - self.offset)
            self._left = there if self._left is None else min(self._left, there)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, as fast as they are taken.

        Raises:
            ApiError: nothing came any more, or the node no longer has the output, or not all that it has counted.
        """
        attempts = _Attempts()
        while self._left != 0:
            broken: ApiError | None = None
            try:
                async for chunk in self._rest():
                    attempts.succeeded()
                    yield chunk
            except TrunklineError as error:
                broken = not_reached(error)
            if self._left == 0:
                return
            if broken is None:
                stated = None if self._wanted.follow else self.size_bytes
                whole = stated if stated is not None else await self._whole_size()
                if self._is_the_end(whole):
                    return
                broken = _OwedError() if whole is not None else None
            await self._close()
            await self._open_again(attempts, broken)

    async def _rest(self) -> AsyncIterator[bytes]:
        if self._answer is None:
            return
        async for chunk in self._answer.response:
            kept = chunk if self._left is None else chunk[: self._left]
            self.offset += len(kept)
            self._left = None if self._left is None else self._left - len(kept)
            if kept:
                yield kept
            if self._left == 0:
                return

    def _is_the_end(self, whole: int | None) -> bool:
        """Whether the end of the stream was the end of an output of so many bytes; None where that is not known yet."""
        if whole is None:
            return not self._wanted.follow
        return self.offset >= whole

    async def _open_again(self, attempts: "_Attempts", broken: ApiError | None) -> None:
        while True:
            await attempts.wait(broken)
            try:
                self._answer = await self._open()
            except ApiError as error:
                if error.code is ErrorCode.NODE_UNREACHABLE:
                    broken = error
                    continue
                if error.code is ErrorCode.RANGE_NOT_SATISFIABLE and await self._whole_size() is not None:
                    self._left = 0  # the node lost bytes, in a power cut say, that were read before: nothing follows
                    return
                raise
            return

    async def _open(self) -> NodeAnswer:
        answer = await self._ask(self.offset, follow=self._wanted.follow)
        if answer.response.status != 200:
            async with answer.response:
                raise await refusal_of_output(answer)
        return answer

    async def _size(self) -> int:
        """Return the size as of now: what a node says that is asked for bytes beyond any end."""
        answer = await self._ask(_BEYOND_ANY_END, follow=False)
        async with answer.response:
            size = size_in(answer)
            if answer.response.status != 416 or size is None:
                raise await refusal_of_output(answer)
            return size

    async def _ask(self, offset: int, *, follow: bool) -> NodeAnswer:
        wanted = self._wanted
        address = await wanted.find_address()
        try:
            return await self._nodes.output(
                address, wanted.command_id, stream=wanted.stream, offset=offset, follow=follow
            )
        except (NotReachedError, UnansweredError) as error:
            raise not_reached(error) from None

    async def _close(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            await answer.response.close()


class _OwedError(ApiError):
    """The node answers, and gives less than it has counted."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.BAD_NODE_RESPONSE, "the node gives less of the output than it says that there is")


class _Attempts:
    """How long a stream that broke is opened again: until nothing has come for `RESUME_SECONDS`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._failing_since: float | None = None
        self._pause_seconds = FIRST_PAUSE_SECONDS

    def succeeded(self) -> None:
        """Bytes came."""
        self._failing_since, self._pause_seconds = None, FIRST_PAUSE_SECONDS

    async def wait(self, broken: ApiError | None) -> None:
        """Wait before the next attempt; None says that the node answered, and only has nothing new to say.

        Raises:
            ApiError: `broken`, as it has been so for too long.
        """
        now = self._loop.time()
        if broken is None:
            self._failing_since = None
        elif self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since > (OWED_SECONDS if isinstance(broken, _OwedError) else RESUME_SECONDS):
            raise broken
        await asyncio.sleep(self._pause_seconds)
        self._pause_seconds = min(self._pause_seconds * 2, LONGEST_PAUSE_SECONDS)


def size_in(answer: NodeAnswer) -> int | None:
    """Return the size of the output that the node states."""
    text = answer.response.get(SIZE_FIELD)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def not_reached(error: Exception) -> ApiError:
    """Return the refusal of what a node would have to be asked."""
    message = f"the node cannot be asked at present: {error}"
    return ApiError(ErrorCode.NODE_UNREACHABLE, message, retry_after_seconds=1)


async def refusal_of_output(answer: NodeAnswer) -> ApiError:
    """Return what it means that a node does not give an output; its answer is read, and let go."""
    status = answer.response.status
    with contextlib.suppress(TrunklineError):
        await answer.response.read(limit_bytes=LARGEST_REFUSAL_BYTES, timeout_seconds=REFUSAL_SECONDS)
    if status == 416:
        return ApiError(ErrorCode.RANGE_NOT_SATISFIABLE, "offset lies beyond the end of the output")
    if status in (404, 410):
        return ApiError(ErrorCode.RESOURCE_DOES_NOT_EXIST, "the node no longer keeps the output of this command")
    if status in (429, 503):
        return not_reached(Exception(f"it answered {status}"))
    return ApiError(ErrorCode.BAD_NODE_RESPONSE, f"the node answered {status}")
