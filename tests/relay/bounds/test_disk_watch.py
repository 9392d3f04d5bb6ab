"""What is kept for a restart, on disks that are slow or full."""

import asyncio
import threading

from prometheus_client import CollectorRegistry

from relay.bounds.disk_watch import DiskWatch
from relay.metrics import RelayMetrics
from tests.support.links import until
from trunkline.runtime.logs import get_logger


class Disk:
    """Takes what it is told to take, and nothing while it stands still."""

    def __init__(self, patience_seconds: float = 30.0) -> None:
        self.registry, self.takes = CollectorRegistry(), {"a": True, "b": True}
        self.moves = threading.Event()
        self.moves.set()
        self.asked = threading.Event()
        keep = {name: (lambda name=name: self._keep(name)) for name in self.takes}
        self.watch = DiskWatch(keep, RelayMetrics(self.registry), get_logger("test"), patience_seconds=patience_seconds)

    def _keep(self, name: str) -> bool:
        self.asked.set()
        assert self.moves.wait(30)
        return self.takes[name]

    async def looked(self) -> tuple[str | None, float | None]:
        await self.watch.look()
        return self.watch.remark(), self.registry.get_sample_value("trunkline_relay_unkept_files")


async def test_what_the_disk_does_not_take_is_remarked_until_it_does() -> None:
    disk = Disk()
    assert await disk.looked() == (None, 0)
    disk.takes["b"] = False
    assert await disk.looked() == ("the disk does not take these, which a restart would lose: b", 1)
    disk.takes["a"] = False
    assert (await disk.looked())[1] == 2
    disk.takes.update(a=True, b=True)
    assert await disk.looked() == (None, 0)


async def test_what_is_due_is_kept_at_once_and_then_reported() -> None:
    disk, reported = Disk(), asyncio.Event()
    running = asyncio.create_task(disk.watch.run())
    disk.watch.due()
    disk.watch.once_kept(reported.set)
    assert not reported.is_set()
    await asyncio.wait_for(reported.wait(), 30)
    assert disk.asked.is_set()
    reported.clear()
    disk.watch.once_kept(reported.set)
    assert reported.is_set(), "nothing is due"
    running.cancel()


async def test_a_disk_that_stands_still_holds_up_neither_the_loop_nor_the_report_for_long() -> None:
    disk, reported = Disk(patience_seconds=0.01), asyncio.Event()
    disk.moves.clear()
    running = asyncio.create_task(disk.watch.run())
    disk.watch.due()
    disk.watch.once_kept(reported.set)
    await asyncio.wait_for(reported.wait(), 30)
    await until(lambda: disk.watch.remark() is not None)
    assert disk.watch.remark() == "the disk is slow: what is to be kept for a restart is not on it yet"
    disk.moves.set()
    await until(lambda: disk.watch.remark() is None)
    running.cancel()


async def test_what_comes_while_the_disk_is_at_it_waits_for_it_and_hears_of_it_once() -> None:
    disk = Disk(patience_seconds=0.05)
    reported: list[str] = []
    disk.moves.clear()
    disk.watch.due()
    looking = asyncio.create_task(disk.watch.look())
    await until(disk.asked.is_set)
    disk.watch.once_kept(lambda: reported.append("kept"))
    assert not reported
    disk.moves.set()
    await looking
    assert reported == ["kept"]
    disk.watch.once_kept(lambda: reported.append("nothing due"))
    await asyncio.sleep(0.1)
    assert reported == ["kept", "nothing due"]
    assert disk.watch.remark() is None


async def test_what_is_due_while_the_disk_is_at_it_is_reported_after_the_next_time() -> None:
    disk = Disk()
    reported: list[str] = []
    disk.moves.clear()
    looking = asyncio.create_task(disk.watch.look())
    await until(disk.asked.is_set)
    disk.watch.due()
    disk.watch.once_kept(lambda: reported.append("kept"))
    disk.moves.set()
    await looking
    assert not reported
    await disk.watch.look()
    assert reported == ["kept"]
