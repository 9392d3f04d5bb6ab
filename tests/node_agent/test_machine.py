import os
import resource

import pytest

from node_agent.machine import LEAST_FREE_BYTES, LEAST_FREE_FILES, Machine, disk_fault
from trunkline.runtime.clock import ManualClock

PRESSURE = "some avg10=1.50 avg60=0.20 avg300=0.30 total=100\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


def test_pressure_is_read_where_the_kernel_counts_it(tmp_path):
    (tmp_path / "cpu").write_text(PRESSURE)
    (tmp_path / "io").write_text("")
    reading = Machine(tmp_path, ManualClock(), pressure_directory=tmp_path).read()
    assert reading.pressure == {
        "cpu": {
            "some": {"avg10": 1.5, "avg60": 0.2, "avg300": 0.3},
            "full": {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0},
        },
        "memory": None,
        "io": {},
    }


def test_a_reading_is_shared_for_a_moment(tmp_path):
    clock = ManualClock()
    machine = Machine(tmp_path, clock)
    first = machine.read()
    assert machine.read() is first
    clock.advance(1)
    assert machine.read() is not first


def test_without_descriptors_the_last_reading_stands(tmp_path):
    clock = ManualClock()
    machine = Machine(tmp_path, clock)
    first = machine.read()
    clock.advance(1)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        assert machine.read() is first
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    clock.advance(1)
    assert machine.read() is not first


def disk(*, free_bytes: int = LEAST_FREE_BYTES, files: int = 1000, free_files: int = 1000, flags: int = 0):
    return os.statvfs_result((1, 1, 10**6, free_bytes, free_bytes, files, free_files, free_files, flags, 255))


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (disk(), None),
        (disk(free_bytes=LEAST_FREE_BYTES - 1), "is full"),
        (disk(free_files=LEAST_FREE_FILES), None),
        (disk(free_files=LEAST_FREE_FILES - 1), "has no inodes left"),
        (disk(files=0, free_files=0), None),  # Btrfs counts none
        (disk(flags=os.ST_RDONLY), "is read-only"),
    ],
)
def test_a_disk_that_takes_nothing_says_why(found: os.statvfs_result, fault: str | None):
    assert disk_fault(found) == fault


def test_nothing_is_remarked_of_a_disk_with_room(tmp_path):
    assert Machine(tmp_path, ManualClock()).remark() is None
