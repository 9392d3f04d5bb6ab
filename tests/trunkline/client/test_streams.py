"""What goes to a node from a pipe, and is cut on its way: it cannot be taken up, so why it was cut is found out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.canned_relay import CannedCall
from tests.support.file_nodes import called_node
from trunkline.client.copy_listener import CopyListener
from trunkline.client.errors import ApiError, CallInterrupted, PermissionRefused, TrunklineError, Unauthenticated
from trunkline.client.file_calls import FileCalls, RemotePlace
from trunkline.client.streams import REASON_PAUSE_SECONDS, REASON_SECONDS, stream_in

VIRTUAL_TIME = True


def refused(
    status: int, message: str, fields: str = "Proxy-Status: trunkline-relay; error=http_request_denied\r\n"
) -> str:
    body = f'{{"error_code": "NOT_NOW", "message": "{message}"}}'
    return f"HTTP/1.1 {status} No\r\n{fields}Content-Length: {len(body)}\r\n\r\n{body}"


TAKES = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def ending_of(*answers: str) -> TrunklineError:
    """How an input ends that is cut, when each call behind that is answered by the next of these; then by nothing."""
    left = iter(answers)

    async def answer(call: CannedCall) -> None:
        if call.head.method == b"PUT":
            call.reset()
        elif (said := next(left, None)) is not None:
            call.answer(said.encode())
        else:
            await asyncio.Event().wait()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"piece"
        await asyncio.Event().wait()

    async with called_node(answer) as node:
        with pytest.raises(TrunklineError) as raised:
            await stream_in(FileCalls(node), pieces(), RemotePlace("/srv/file"), CopyListener())
    return raised.value


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (refused(403, "the node is locked"), PermissionRefused, "the node is locked"),
        (refused(401, "the node is revoked"), Unauthenticated, "the node is revoked"),
        (refused(403, "the owner allows it no more", ""), ApiError, "the owner allows it no more"),
    ],
)
async def test_an_input_that_was_cut_for_a_reason_ends_with_it(
    answer: str, kind: type[TrunklineError], said: str
) -> None:
    error = await ending_of(answer)
    assert (type(error), str(error)) == (kind, said)


@pytest.mark.parametrize("answers", [[TAKES], [refused(502, "the node has no link to this relay")], []])
async def test_an_input_whose_way_broke_ends_with_that(answers: list[str]) -> None:
    began = asyncio.get_running_loop().time()
    error = await ending_of(*answers)
    assert (type(error), str(error).partition(":")[0]) == (CallInterrupted, "the call was cut off")
    assert asyncio.get_running_loop().time() - began < REASON_PAUSE_SECONDS + REASON_SECONDS + 1
