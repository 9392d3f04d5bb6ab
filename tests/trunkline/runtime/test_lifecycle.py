import asyncio
import json
import os
import signal
import socket
from pathlib import Path

import pytest

from trunkline.runtime.lifecycle import DRAIN_SIGNAL, Lifecycle
from trunkline.runtime.logs import get_logger
from trunkline.runtime.systemd import ServiceNotifier


def lifecycle_in(path: Path, notifier: ServiceNotifier | None = None) -> Lifecycle:
    return Lifecycle(
        state_directory=path, notifier=notifier or ServiceNotifier(None, None), log=get_logger("test.lifecycle")
    )


async def test_ready_when_started_and_every_condition_is_met(tmp_path):
    with lifecycle_in(tmp_path) as lifecycle:
        trust = lifecycle.condition("trust document")
        port = lifecycle.condition("port")
        lifecycle.started(url="https://127.0.0.1:1", admin_url="http://127.0.0.1:2")
        port.met()
        assert not lifecycle.ready
        assert lifecycle.unmet_conditions() == {"trust document": "not yet"}
        assert not (tmp_path / "endpoints.json").exists()
        trust.met()
        assert lifecycle.ready
        endpoints = json.loads((tmp_path / "endpoints.json").read_text())
        assert endpoints == {"pid": os.getpid(), "url": "https://127.0.0.1:1", "admin_url": "http://127.0.0.1:2"}
        trust.unmet("it is old")
        assert not lifecycle.ready
        assert lifecycle.unmet_conditions() == {"trust document": "it is old"}
    assert not (tmp_path / "endpoints.json").exists()


async def test_systemd_is_told(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(str(tmp_path / "notify"))
        with lifecycle_in(tmp_path, ServiceNotifier(str(tmp_path / "notify"), 0.001)) as lifecycle:
            lifecycle.started()
            assert receiving.recv(64) == b"READY=1"
            watchdog = asyncio.create_task(lifecycle.keep_watchdog())
            assert await asyncio.to_thread(receiving.recv, 64) == b"WATCHDOG=1"
            watchdog.cancel()
            await asyncio.wait([watchdog])
            receiving.setblocking(False)
            while True:
                try:
                    receiving.recv(64)
                except BlockingIOError:
                    break
            lifecycle.request_drain()
            assert receiving.recv(64) == b"STOPPING=1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_drains_and_the_second_stops(tmp_path, number):
    with lifecycle_in(tmp_path) as lifecycle:
        lifecycle.started()
        os.kill(os.getpid(), number)
        await lifecycle.drain_requested.wait()
        assert not lifecycle.ready
        assert not lifecycle.stop_requested.is_set()
        os.kill(os.getpid(), number)
        await lifecycle.stop_requested.wait()


async def test_a_drain_may_be_asked_for_by_several(tmp_path):
    with lifecycle_in(tmp_path) as lifecycle:
        lifecycle.started()
        seen = asyncio.Event()
        lifecycle.on_reload(seen.set)
        for number in (DRAIN_SIGNAL, DRAIN_SIGNAL, signal.SIGHUP):
            os.kill(os.getpid(), number)
        await seen.wait()
        assert lifecycle.draining
        assert not lifecycle.stop_requested.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        await lifecycle.stop_requested.wait()
    os.kill(os.getpid(), DRAIN_SIGNAL)  # one who asks at the very end kills nobody


async def test_hangup_reloads(tmp_path):
    with lifecycle_in(tmp_path) as lifecycle:
        reloaded = asyncio.Event()
        lifecycle.on_reload(reloaded.set)
        os.kill(os.getpid(), signal.SIGHUP)
        await reloaded.wait()
        assert not lifecycle.draining


async def test_draining_ends_with_the_work(tmp_path):
    lifecycle = lifecycle_in(tmp_path)
    assert await lifecycle.within_drain(asyncio.sleep(0), timeout_seconds=30)


async def test_draining_ends_with_its_time(tmp_path):
    lifecycle = lifecycle_in(tmp_path)
    assert not await lifecycle.within_drain(asyncio.Event().wait(), timeout_seconds=0.01)


async def test_draining_ends_with_a_second_demand(tmp_path):
    lifecycle = lifecycle_in(tmp_path)
    lifecycle.request_drain()
    draining = asyncio.create_task(lifecycle.within_drain(asyncio.Event().wait(), timeout_seconds=3600))
    await asyncio.sleep(0)
    lifecycle.request_drain()
    assert not await draining


async def test_work_is_awaited_unless_the_end_is_asked_for_first(tmp_path):
    async def work() -> int:
        return 7

    with lifecycle_in(tmp_path) as lifecycle:
        assert await lifecycle.unless_drained(work()) == 7
        never = asyncio.Event()
        waiting = asyncio.create_task(lifecycle.unless_drained(never.wait()))
        await asyncio.sleep(0)
        lifecycle.request_drain()
        assert await waiting is None
