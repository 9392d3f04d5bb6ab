"""When a command wrote what, as its node says it: marks of an offset and a time."""

from pydantic import BaseModel, Field, ValidationError

from control_plane.errors import ApiError, ErrorCode
from control_plane.fleet.node_commands import NodeAddress, NodeCommands
from control_plane.fleet.node_output import not_reached, refusal_of_output
from control_plane.fleet.reach import NotReachedError, UnansweredError
from trunkline.client.errors import TrunklineError

MOST_MARKS = 4096
MOST_PAGES = 16
LARGEST_ANSWER_BYTES = 512 * 1024
ANSWER_SECONDS = 10.0


class Mark(BaseModel):
    """The bytes from `offset` on were written at `time` (milliseconds since the epoch) or later.

    And before the time of the next mark.
    """

    offset: int = Field(ge=0, lt=2**63)
    time: int = Field(ge=0, lt=2**63)


class MarkPage(BaseModel):
    """Some marks, and the offset of the one that follows, None where none does."""

    times: list[Mark] = Field(max_length=MOST_MARKS)
    next_offset: int | None = None


async def read_marks(
    nodes: NodeCommands, address: NodeAddress, command_id: str, *, stream: str, offset: int, most: int
) -> MarkPage:
    """Ask a node for the marks of the bytes from an offset on.

    Raises:
        ApiError: the node cannot be asked, or has no such output.
    """
    try:
        answer = await nodes.times(address, command_id, stream=stream, offset=offset, most=most)
        if answer.response.status != 200:
            async with answer.response:
                raise await refusal_of_output(answer)
        body = await answer.response.read(limit_bytes=LARGEST_ANSWER_BYTES, timeout_seconds=ANSWER_SECONDS)
    except (NotReachedError, UnansweredError, TrunklineError) as error:
        raise not_reached(error) from None
    try:
        return MarkPage.model_validate_json(body)
    except ValidationError:
        raise ApiError(ErrorCode.BAD_NODE_RESPONSE, "the node's answer could not be read") from None


async def read_thinned(
    nodes: NodeCommands, address: NodeAddress, command_id: str, *, stream: str, most: int
) -> list[tuple[int, int]]:
    """Return the marks of a whole output, evenly thinned to `most` at most; those that are left stay true.

    Raises:
        ApiError: as `read_marks`.
    """
    marks: list[tuple[int, int]] = []
    offset = 0
    for _ in range(MOST_PAGES):
        page = await read_marks(nodes, address, command_id, stream=stream, offset=offset, most=MOST_MARKS)
        marks += [(mark.offset, mark.time) for mark in page.times]
        if page.next_offset is None or page.next_offset <= offset:
            break
        offset = page.next_offset
    return marks[:: -(-len(marks) // most)] if marks else []
