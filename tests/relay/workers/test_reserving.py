import asyncio
import errno
import os
import socket
from contextlib import ExitStack

import pytest

from relay.port.listening import open_listening
from relay.workers.reserving import reserve


async def shared_listener(stack: ExitStack, port: int = 0) -> socket.socket:
    """What a worker has."""
    (listening,) = await open_listening("127.0.0.1", port, backlog=16, shared=True)
    return stack.enter_context(listening)


async def test_a_port_that_the_workers_of_another_relay_share_is_taken() -> None:
    with ExitStack() as stack:
        theirs = await shared_listener(stack)
        with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
            await reserve("127.0.0.1", theirs.getsockname()[1], within_seconds=0.0)


async def test_workers_that_are_just_ending_are_waited_for() -> None:
    with ExitStack() as stack:
        theirs = await shared_listener(stack)
        reserving = asyncio.create_task(reserve("127.0.0.1", theirs.getsockname()[1], within_seconds=30.0))
        done, _ = await asyncio.wait([reserving], timeout=0.02)
        assert not done
        theirs.close()
        for reserved in await reserving:
            reserved.close()


async def test_workers_share_what_is_reserved() -> None:
    with ExitStack() as stack:
        for place in reversed(await reserve("127.0.0.1", 0)):
            reserved = stack.enter_context(place)
        for _ in range(2):
            await shared_listener(stack, reserved.getsockname()[1])


async def test_of_two_relays_that_start_together_one_has_the_port() -> None:
    with ExitStack() as stack:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        for place in await reserve("127.0.0.1", port, within_seconds=20.0):
            stack.enter_context(place)
        with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
            await reserve("127.0.0.1", port, within_seconds=0.0)
    for place in await reserve("127.0.0.1", port):
        place.close()


@pytest.mark.parametrize("backlog", [None, 1])
async def test_another_user_who_holds_the_name_does_not_keep_a_relay_from_starting(
    monkeypatch: pytest.MonkeyPatch, backlog: int | None
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with ExitStack() as stack:
        theirs = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        theirs.bind(f"\0trunkline-relay/{os.geteuid()}/127.0.0.1/{port}")
        if backlog is not None:
            theirs.listen(backlog)
        for place in await reserve("127.0.0.1", port, within_seconds=0.0):
            stack.enter_context(place)
