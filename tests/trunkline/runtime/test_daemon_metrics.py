"""What every daemon says of its process."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from trunkline.runtime.daemon_metrics import daemon_registry
from trunkline.version import __version__


def blocks(registry: CollectorRegistry) -> float:
    value = registry.get_sample_value("trunkline_python_allocated_blocks")
    assert value is not None
    return value


def test_the_release_is_told() -> None:
    assert daemon_registry().get_sample_value("trunkline_build_info", {"version": __version__}) == 1


def test_what_is_kept_shows_in_the_blocks() -> None:
    registry = daemon_registry()
    before = blocks(registry)
    kept = [object() for _ in range(100_000)]
    assert blocks(registry) - before > 90_000
    kept.clear()
    assert blocks(registry) - before < 50_000


def test_a_unit_that_sees_processes_alone_says_as_much_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to("/proc/self")  # what ProcSubset=pid leaves
    told, all_told = daemon_registry(proc=str(tmp_path)), daemon_registry()
    names = ("cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds")
    assert not [name for name in names if told.get_sample_value(f"process_{name}") is None]
    started_at = told.get_sample_value("process_start_time_seconds")
    assert started_at == pytest.approx(all_told.get_sample_value("process_start_time_seconds"), abs=2.0)
