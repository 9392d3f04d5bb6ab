"""Servers on a machine, or in a process, that has no descriptors left."""

import asyncio
import resource
import socket
from typing import Any

from trunkline.runtime.loop import loop_factory


def test_a_server_without_descriptors_rests_and_serves_those_who_waited_once_there_are_some() -> None:
    told: list[dict[str, Any]] = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\n")
        writer.close()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        resting = asyncio.Event()

        def tell(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            told.append(context)
            resting.set()

        loop.set_exception_handler(tell)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
            waiting = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(2)]
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
                await asyncio.wait_for(resting.wait(), 30)
                for _ in range(100):
                    await asyncio.sleep(0)  # turns in which it would complain again
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for connection in waiting:
                with connection:
                    connection.setblocking(False)
                    assert await loop.sock_recv(connection, 100) == b"hello\n"

    with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
        runner.run(main())
    assert [context["message"] for context in told] == [
        "no new connections are accepted for a moment: raise LimitNOFILE"
    ]
