"""The admin endpoint of a process that has no descriptors left."""

import asyncio
import contextlib
import json
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from trunkline.runtime.admin import AdminServer
from trunkline.runtime.admin_port import KEPT_BACK, SpareDescriptors
from trunkline.runtime.daemon_metrics import daemon_registry
from trunkline.runtime.lifecycle import Lifecycle
from trunkline.runtime.logs import get_logger
from trunkline.runtime.loop import EventLoopName, loop_factory
from trunkline.runtime.systemd import ServiceNotifier


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[list[int]]:
    """Take all descriptors that there are, of few; yields them, so that some can be let go of."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 16, hard))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield taken
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


async def ask(connection: socket.socket, path: str) -> str:
    """Ask over a socket that is connected already, and return the answer's body."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    answer = b""
    while data := await loop.sock_recv(connection, 65536):
        answer += data
    return answer.partition(b"\r\n\r\n")[2].decode()


async def is_answered_without_descriptors(directory: Path) -> None:
    lifecycle = Lifecycle(state_directory=directory, notifier=ServiceNotifier(None, None), log=get_logger("test"))
    server = AdminServer("127.0.0.1", 0, metrics=daemon_registry(), lifecycle=lifecycle)
    paths = ["/readyz?verbose", "/metrics"] * KEPT_BACK * 2
    callers = [socket.socket() for _ in paths]
    async with server, asyncio.timeout(20):
        with no_descriptors_left():
            place = ("127.0.0.1", int(server.url.rpartition(":")[2]))
            for caller, path in zip(callers, paths, strict=True):
                caller.connect(place)
                caller.setblocking(False)
                body = await ask(caller, path)
                if path == "/metrics":
                    assert "process_open_fds " in body
                else:
                    assert "no descriptors are left" in json.loads(body)["remarks"]["descriptors"]
        for caller in callers:
            caller.close()


@pytest.mark.parametrize("name", ["auto", "uvloop", "asyncio"])
def test_it_is_answered_again_and_again_without_descriptors(tmp_path: Path, name: EventLoopName) -> None:
    with asyncio.Runner(loop_factory=loop_factory(name)) as runner:
        runner.run(is_answered_without_descriptors(tmp_path))


def test_what_was_given_up_is_taken_back_once_there_is_room() -> None:
    spare = SpareDescriptors(2)
    with no_descriptors_left() as taken:
        assert spare.give_up()
        taken.append(os.open(os.devnull, os.O_RDONLY))
        with spare.lent():
            os.close(os.open(os.devnull, os.O_RDONLY))
        assert not spare.take_back()
        os.close(taken.pop())
        assert spare.take_back()
    spare.close()
    assert not spare.give_up()
