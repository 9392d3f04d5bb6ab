"""Quotas from the control plane: in force, kept, and nothing lost by what cannot be read."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.admission.quota_keeper import QuotaKeeper
from relay.admission.quotas import Quotas
from trunkline.runtime.logs import get_logger

STATED = '{"ws-1": {"workspace": {"concurrent_calls": 1}}}'


class Kept:
    def __init__(self, directory: Path) -> None:
        self.quotas = Quotas()
        self.changes = 0
        self.keeper = QuotaKeeper(directory, self.quotas, self.changed, get_logger("test"))

    def changed(self) -> None:
        self.changes += 1

    @property
    def bounded(self) -> bool:
        return self.quotas.use("ws-1", "ann", 0.0) is not None


def test_they_are_in_force_at_once_and_after_a_restart(tmp_path: Path) -> None:
    first = Kept(tmp_path)
    assert not first.bounded
    first.keeper.take(STATED)
    first.keeper.take(STATED)
    assert (first.bounded, first.changes) == (True, 1)
    second = Kept(tmp_path)
    assert second.bounded
    second.keeper.take("{}")
    assert not second.bounded
    assert not Kept(tmp_path).bounded


def test_what_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.keeper.take(STATED)
    kept.keeper.take("[]")
    assert (kept.bounded, kept.changes) == (True, 1)
    (tmp_path / "quotas.json").write_bytes(b"\xff")
    assert not Kept(tmp_path).bounded


def test_a_full_disk_costs_only_the_copy_until_it_takes_it(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "missing")
    assert kept.keeper.keep(), "there is nothing to keep yet"
    kept.keeper.take(STATED)
    assert kept.bounded
    assert not kept.keeper.keep()
    (tmp_path / "missing").mkdir()
    assert kept.keeper.keep()
    assert Kept(tmp_path / "missing").bounded


def test_what_is_kept_later_is_in_force_at_once_and_due(tmp_path: Path) -> None:
    kept, due = Kept(tmp_path), []
    kept.keeper.store_later(lambda: due.append(kept.keeper.text))
    kept.keeper.take(STATED)
    assert (kept.bounded, due) == (True, [STATED])
    assert not Kept(tmp_path).bounded
    assert kept.keeper.keep()
    assert Kept(tmp_path).bounded


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def no_json(path: Path) -> None:
    path.write_bytes(b"{")


@pytest.mark.parametrize("put", [a_fifo, no_json, Path.mkdir])
def test_a_damaged_file_is_named_and_keeps_no_relay_from_starting(
    tmp_path: Path, put: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "quotas.json")
    kept = Kept(tmp_path)
    told = capsys.readouterr().out
    assert str(tmp_path / "quotas.json") in told
    assert "until the control plane has stated them" in told
    kept.keeper.take(STATED)
    assert kept.bounded
