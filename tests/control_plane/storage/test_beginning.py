"""What begins with a look at the database waits for one that is away, and ends of nothing but a fault of ours."""

import asyncio
import contextlib

import pytest
from structlog.testing import capture_logs

from control_plane.storage import beginning
from control_plane.storage.beginning import begun, look_for_ever
from control_plane.storage.errors import StorageBusyError, StorageUnreachableError
from tests.support.virtual_time import in_virtual_time
from trunkline.runtime.logs import get_logger


async def test_it_asks_until_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beginning, "RETRY_SECONDS", 0)
    failures: list[Exception] = [StorageUnreachableError(), StorageBusyError("busy")]

    async def look() -> str:
        if failures:
            raise failures.pop()
        return "found"

    assert await begun(look, get_logger("t"), "not_looked_for") == "found"
    assert not failures


async def test_a_fault_of_ours_ends_it() -> None:
    async def look() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await begun(look, get_logger("t"), "not_looked_for")


@in_virtual_time
async def test_looks_come_after_pauses_and_go_on_behind_a_failure() -> None:
    looks: list[float] = []

    async def look() -> None:
        looks.append(asyncio.get_running_loop().time())
        if len(looks) == 2:
            raise StorageUnreachableError

    with capture_logs() as lines, contextlib.suppress(TimeoutError):
        async with asyncio.timeout(35.0):
            await look_for_ever(look, 10.0, get_logger("t"), "not_looked_for")
    assert looks == [10.0, 20.0, 30.0]
    assert [line["event"] for line in lines] == ["not_looked_for"]
