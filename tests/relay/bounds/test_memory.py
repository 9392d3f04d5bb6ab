"""What the kernel says of memory."""

import mmap
from pathlib import Path

import pytest

from relay.bounds.memory import PAGE_BYTES, limit_bytes, resident_bytes


def test_this_process_holds_what_it_has_touched() -> None:
    before = resident_bytes()
    with mmap.mmap(-1, 64 * 2**20) as held:
        held.write(b"\1" * len(held))
        assert resident_bytes() - before > 48 * 2**20


def test_what_processes_have_in_common_counts_once_and_one_that_has_ended_not_at_all(tmp_path: Path) -> None:
    statms = [tmp_path / name for name in ("parent", "worker", "ended")]
    statms[0].write_text("40000 20000 7000 1 0 30000 0\n")
    statms[1].write_text("40000 19000 6900 1 0 30000 0\n")
    assert resident_bytes(statms) == (13000 + 12100 + 7000) * PAGE_BYTES


@pytest.mark.parametrize(
    ("cgroup", "limits", "expected"),
    [
        ("0::/a/b\n", {"a/memory.max": "100", "a/b/memory.max": "max"}, 100),
        ("0::/a/b\n", {"a/memory.max": "100", "a/b/memory.max": "50"}, 50),
        ("0::/\n", {}, None),
        ("4:memory:/a\n1:cpu:/c\n0::/\n", {"memory/a/memory.limit_in_bytes": "70"}, 70),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": str(2**63 - 4096)}, None),
        ("1:cpu,cpuacct:/a\n", {"memory/a/memory.limit_in_bytes": "70"}, None),
        ("0::/a\n", {"a/memory.max": "nonsense"}, None),
    ],
)
def test_the_least_limit_of_the_cgroups(
    tmp_path: Path, cgroup: str, limits: dict[str, str], expected: int | None
) -> None:
    for name, text in limits.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    stated = tmp_path / "cgroup"
    stated.write_text(cgroup)
    assert limit_bytes(stated, tmp_path) == expected


def test_without_cgroups_there_is_no_limit(tmp_path: Path) -> None:
    assert limit_bytes(tmp_path / "missing", tmp_path) is None
