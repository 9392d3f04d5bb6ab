"""Every byte once and in order, whatever breaks, and an error in the end if nothing comes any more."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from tests.support.virtual_time import in_virtual_time
from trunkline.client.api_transport import Query, StreamedBody
from trunkline.client.command_output import SILENCE_SECONDS, OutputRange, OutputReader
from trunkline.client.errors import ApiError, DeadlineExceeded, OutputNotKept, Unreachable
from trunkline.client.resumption import RESUME_SECONDS

WHOLE = bytes(range(256)) * 64


class Service:
    """An output of `WHOLE`, served as a script says: one entry for each request, the last for all that follow."""

    def __init__(self, *script: Callable[[int], AsyncIterator[bytes]], size: int = len(WHOLE)) -> None:
        self.script = list(script)
        self.size = size
        self.kept: tuple[int, int] | None = None
        self.queries: list[Mapping[str, str | int | None]] = []

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: Query | None = None, head_seconds: float | None = None
    ) -> AsyncIterator[StreamedBody]:
        assert isinstance(query, Mapping)
        assert head_seconds
        self.queries.append(query)
        serve = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        tail = query["tail"]
        offset = max(0, self.size - int(tail)) if tail is not None else int(query["offset"] or 0)
        fields = {"Trunkline-Offset": str(offset), "Trunkline-Size": str(self.size)}
        if self.kept is not None:
            begin, end = self.kept
            if offset < end:
                fields["Trunkline-Cut"] = f"{max(offset, begin)}-{end}"
            offset = end if begin <= offset < end else offset
            fields["Trunkline-Offset"] = str(offset)
        yield StreamedBody(serve(offset), fields)


async def whole(offset: int) -> AsyncIterator[bytes]:
    for start in range(offset, len(WHOLE), 1000):
        yield WHOLE[start : start + 1000]


def cut_after(size: int, error: Exception | None = None) -> Callable[[int], AsyncIterator[bytes]]:
    async def serve(offset: int) -> AsyncIterator[bytes]:
        if size:
            yield WHOLE[offset : offset + size]
        raise error or Unreachable("the connection was lost", perhaps_arrived=True)

    return serve


async def silent(offset: int) -> AsyncIterator[bytes]:
    await asyncio.sleep(3600)
    yield b"never"


async def empty(_: int) -> AsyncIterator[bytes]:
    for piece in ():
        yield piece


async def read(service: Service, **wanted) -> bytes:
    reader = OutputReader(service, "/output", "stdout", OutputRange(**wanted))
    return b"".join([piece async for piece in reader.pieces()])


@in_virtual_time
async def test_cuts_at_a_hundred_places_leave_no_gap_and_no_double_byte() -> None:
    rng = random.Random(7)
    service = Service(*[cut_after(rng.choice([0, 1, 7, 100, 250])) for _ in range(100)], whole)
    assert await read(service, follow=True) == WHOLE
    assert len(service.queries) == 101
    offsets = [int(query["offset"] or 0) for query in service.queries]
    assert offsets == sorted(offsets)


@in_virtual_time
async def test_a_connection_that_is_dead_without_a_word_is_made_again() -> None:
    service = Service(cut_after(10, TimeoutError()), silent, silent, whole)
    service.script[0] = cut_after(10)
    began = asyncio.get_running_loop().time()
    assert await read(service, follow=True) == WHOLE
    assert asyncio.get_running_loop().time() - began == pytest.approx(2 * SILENCE_SECONDS, abs=1)


@in_virtual_time
async def test_an_output_that_breaks_now_and_then_is_read_on_for_as_long_as_it_comes() -> None:
    async def slow(offset: int) -> AsyncIterator[bytes]:
        await asyncio.sleep(SILENCE_SECONDS - 1)
        yield WHOLE[offset : offset + 100]
        raise Unreachable("the connection was lost", perhaps_arrived=True)

    nothing = cut_after(0)
    service = Service(*[slow] * 10, nothing, *[silent] * 5, nothing, whole)
    assert await read(service, follow=True) == WHOLE
    assert asyncio.get_running_loop().time() > 3 * RESUME_SECONDS


@in_virtual_time
async def test_nothing_is_asked_for_once_the_length_has_come() -> None:
    service = Service(cut_after(300))
    assert await read(service, length_bytes=300) == WHOLE[:300]
    assert len(service.queries) == 1
    assert await read(Service(cut_after(0), empty), length_bytes=0) == b""


@in_virtual_time
async def test_a_command_that_is_silent_for_an_hour_is_followed_to_its_end() -> None:
    service = Service(*[silent] * 120, whole)
    assert await read(service, follow=True) == WHOLE
    assert asyncio.get_running_loop().time() >= 120 * SILENCE_SECONDS


@pytest.mark.parametrize(
    "error",
    [
        Unreachable("refused"),
        ApiError(502, "NODE_UNREACHABLE", "the node is offline", retry_after_seconds=1),
        DeadlineExceeded("no answer"),
    ],
)
def test_nothing_that_answers_is_the_last_error_after_two_minutes(error: Exception) -> None:
    @in_virtual_time
    async def run() -> None:
        service = Service(cut_after(300), cut_after(0, error))
        reader = OutputReader(service, "/o", "stdout", OutputRange(follow=True))
        pieces = reader.pieces()
        assert await anext(pieces) == WHOLE[:300]
        with pytest.raises(type(error)):
            await anext(pieces)
        assert RESUME_SECONDS <= asyncio.get_running_loop().time() <= RESUME_SECONDS + 15

    run()


@in_virtual_time
async def test_a_refusal_is_not_tried_again() -> None:
    service = Service(cut_after(0, ApiError(404, "RESOURCE_DOES_NOT_EXIST", "there is no such command")))
    with pytest.raises(ApiError):
        await read(service)
    assert len(service.queries) == 1


@in_virtual_time
async def test_a_silence_without_following_is_an_error() -> None:
    service = Service(silent)
    with pytest.raises(DeadlineExceeded):
        await read(service)


@in_virtual_time
async def test_a_tail_is_resumed_by_its_offset() -> None:
    service = Service(cut_after(60), whole)
    assert await read(service, tail_bytes=100) == WHOLE[-100:]
    first, second = service.queries
    assert (first["tail"], first["offset"]) == (100, None)
    assert (second["tail"], second["offset"]) == (None, len(WHOLE) - 40)


@in_virtual_time
async def test_a_length_is_counted_over_cuts() -> None:
    async def bounded(offset: int) -> AsyncIterator[bytes]:
        yield WHOLE[offset : offset + int(service.queries[-1]["length"] or 0)]

    service = Service(cut_after(60), bounded)
    assert await read(service, offset=5, length_bytes=100) == WHOLE[5:105]
    assert [query["length"] for query in service.queries] == [100, 40]


def kept_but_for(begin: int, end: int) -> Service:
    """A service that has all but these bytes."""

    async def serve(offset: int) -> AsyncIterator[bytes]:
        yield WHOLE[offset : begin if offset < begin else len(WHOLE)]

    service = Service(serve)
    service.kept = (begin, end)
    return service


@in_virtual_time
async def test_bytes_that_were_not_kept_are_an_error_at_their_place() -> None:
    pieces = OutputReader(kept_but_for(100, 5000), "/o", "stdout", OutputRange()).pieces()
    assert await anext(pieces) == WHOLE[:100]
    with pytest.raises(OutputNotKept) as caught:
        await anext(pieces)
    assert (caught.value.begin, caught.value.end) == (100, 5000)


@in_virtual_time
async def test_whoever_is_told_of_a_cut_gets_what_is_behind_it() -> None:
    for offset, expected, cut in [
        (0, WHOLE[:100] + WHOLE[5000:], (100, 5000)),
        (300, WHOLE[5000:], (300, 5000)),
        (5000, WHOLE[5000:], None),
    ]:
        cuts: list[OutputNotKept] = []
        reader = OutputReader(kept_but_for(100, 5000), "/o", "stdout", OutputRange(offset), on_cut=cuts.append)
        assert b"".join([piece async for piece in reader.pieces()]) == expected
        assert [(found.begin, found.end) for found in cuts] == ([] if cut is None else [cut])


@in_virtual_time
async def test_a_length_counts_what_was_not_kept() -> None:
    cuts: list[OutputNotKept] = []
    service = kept_but_for(100, 5000)
    reader = OutputReader(service, "/o", "stdout", OutputRange(length_bytes=5010), on_cut=cuts.append)
    content = b"".join([piece async for piece in reader.pieces()])
    assert content[:100] == WHOLE[:100]
    assert [query["length"] for query in service.queries] == [5010, 10]


@in_virtual_time
async def test_nobody_is_waited_for_longer_because_they_ask() -> None:
    busy = ApiError(503, "TEMPORARILY_UNAVAILABLE", "later", retry_after_seconds=999_999.0)
    service = Service(cut_after(0, busy))
    started_at = asyncio.get_running_loop().time()
    with pytest.raises(ApiError):
        [piece async for piece in OutputReader(service, "/x", "stdout", OutputRange()).pieces()]
    assert asyncio.get_running_loop().time() - started_at < 2 * RESUME_SECONDS
