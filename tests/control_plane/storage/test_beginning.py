"""What begins with a look at the database waits for one that is away, and ends of nothing but a fault of ours."""

import pytest

from control_plane.storage import beginning
from control_plane.storage.beginning import begun
from control_plane.storage.errors import StorageBusyError, StorageUnreachableError
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
