"""Changes of the network: collected, told once, and where they lead."""

import asyncio
import socket

from node_agent.links.network_watch import QUIET_SECONDS, SETTLE_SECONDS, NetworkWatch, _subscribe
from tests.support.virtual_time import in_virtual_time
from trunkline.runtime.logs import get_logger


def watched(told):
    ours, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    loop = asyncio.get_running_loop()
    watch = NetworkWatch(lambda: told.append(loop.time()), get_logger("test"))
    watch.watch(ours)
    return watch, kernels


@in_virtual_time
async def test_many_changes_at_once_are_told_once_and_the_next_not_too_soon():
    told = []
    watch, kernels = watched(told)
    with kernels:
        for _ in range(100):
            kernels.send(b"change")
        await asyncio.sleep(1)
        assert told == [SETTLE_SECONDS]
        kernels.send(b"change")
        await asyncio.sleep(10)
        assert told == [SETTLE_SECONDS, SETTLE_SECONDS + QUIET_SECONDS]
        watch.close()


@in_virtual_time
async def test_nothing_is_told_after_the_end():
    told = []
    watch, kernels = watched(told)
    with kernels:
        kernels.send(b"change")
        await asyncio.sleep(0.1)
        watch.close()
        await asyncio.sleep(10)
    assert told == []


async def test_the_kernel_lets_anybody_listen():
    with _subscribe() as opened:
        assert opened.getsockname()[1] != 0
