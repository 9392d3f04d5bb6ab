"""Input that is brought part by part: every byte once, in order, whatever is lost on the way."""

import asyncio
import random

import pytest

from tests.support.virtual_time import in_virtual_time
from trunkline.client.command_input import NO_ROOM_PAUSE_SECONDS, PART_BYTES, InputPart, InputSender
from trunkline.client.errors import ApiError, BadResponse, Unreachable
from trunkline.client.records.commands import InputStanding


class FakeNode:
    """Takes parts as an agent does; `trouble` says for each call what goes wrong, or how much is taken of it."""

    def __init__(self, *trouble):
        self.content = bytearray()
        self.complete = False
        self.closed = False
        self.parts: list[InputPart] = []
        self._trouble = list(trouble)

    async def put(self, part: InputPart) -> InputStanding:
        self.parts.append(part)
        trouble = self._trouble.pop(0) if self._trouble else None
        if isinstance(trouble, ApiError):
            raise trouble
        assert part.offset <= len(self.content), "a gap"
        fresh = part.content[len(self.content) - part.offset :]
        taken = fresh if not isinstance(trouble, int) else fresh[:trouble]
        self.content += taken
        self.complete = self.complete or (part.last and taken == fresh)
        if isinstance(trouble, Unreachable):
            raise trouble  # the answer is lost
        return InputStanding(received_bytes=len(self.content), complete=self.complete, closed=self.closed)


async def pieces_of(*pieces):
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


async def test_parts_that_are_lost_or_taken_in_part_are_brought_again():
    lost, away, nothing, some = Unreachable("lost"), ApiError(502, "NODE_UNREACHABLE", "away"), 0, 1000
    node = FakeNode(lost, away, some, nothing, None, lost, some)
    given = [random.Random(size).randbytes(size) for size in (1, 70_000, PART_BYTES, 3 * PART_BYTES, 5)]
    standing = await InputSender(node.put).send(pieces_of(*given))
    assert (bytes(node.content), node.complete, standing.complete) == (b"".join(given), True, True)
    assert max(len(part.content) for part in node.parts) <= PART_BYTES
    assert [part.last for part in node.parts].count(True) >= 1


async def test_an_empty_input_has_an_end_too():
    node = FakeNode()
    assert (await InputSender(node.put).send(pieces_of())).complete
    assert node.parts == [InputPart(b"", 0, last=True)]


async def test_nothing_more_is_sent_once_the_command_reads_no_more():
    node = FakeNode()
    node.closed = True
    taken = []

    async def endless():
        while True:
            taken.append(1)
            yield bytes(PART_BYTES)

    assert (await InputSender(node.put).send(endless())).closed
    assert len(node.parts) == 1
    assert len(taken) < 5, "no more is read than fits on the way"


async def test_a_part_of_which_the_command_reads_no_more_is_not_brought_again():
    node = FakeNode(10)
    node.closed = True
    assert (await InputSender(node.put).send(pieces_of(bytes(100)))).closed
    assert len(node.parts) == 1


async def test_what_came_at_once_with_its_end_is_brought_whole():
    node, given = FakeNode(), random.Random(1).randbytes(PART_BYTES + 5)
    assert (await InputSender(node.put).send(pieces_of(given))).complete
    assert bytes(node.content) == given
    assert [part.last for part in node.parts] == [False, True]


@in_virtual_time
async def test_the_end_is_brought_until_the_node_has_it_with_pauses():
    node = FakeNode()

    async def forgetful(part):
        standing = await node.put(part)
        return standing.model_copy(update={"complete": len(node.parts) == 4})

    assert (await InputSender(forgetful).send(pieces_of(b"x"))).complete
    assert node.parts == [InputPart(b"x", 0, last=True), *[InputPart(b"", 1, last=True)] * 3]
    assert asyncio.get_running_loop().time() == pytest.approx(2 * NO_ROOM_PAUSE_SECONDS)


async def test_what_will_not_pass_is_raised():
    refused = ApiError(409, "RESOURCE_CONFLICT", "it takes no input")
    with pytest.raises(ApiError) as raised:
        await InputSender(FakeNode(refused).put).send(pieces_of(b"x"))
    assert raised.value is refused


async def test_an_input_that_fails_has_no_end():
    async def failing():
        yield b"one"
        raise OSError("the disk is gone")

    node = FakeNode()
    with pytest.raises(OSError, match="the disk is gone"):
        await InputSender(node.put).send(failing())
    assert not node.complete


async def test_a_node_that_has_lost_what_it_had_is_no_place_to_go_on():
    node = FakeNode()

    async def forgetful(part):
        standing = await node.put(part)
        return standing if part.offset == 0 else standing.model_copy(update={"received_bytes": 0})

    async def slowly():
        yield b"one"
        while not node.parts:  # noqa: ASYNC110
            await asyncio.sleep(0)
        yield b"two"

    with pytest.raises(BadResponse):
        await InputSender(forgetful).send(slowly())
