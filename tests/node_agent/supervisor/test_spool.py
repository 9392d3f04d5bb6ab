import os

import pytest

from node_agent.supervisor.spool import ENTRY, TIMES_SUFFIX, SpoolWriter


@pytest.fixture
def directory(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def entries(path):
    return list(ENTRY.iter_unpack(path.read_bytes()))


def test_bytes_beyond_the_bound_are_dropped_and_counted(directory, tmp_path):
    spool = SpoolWriter(directory, "stdout", max_bytes=10)
    spool.append(b"0123456789ab")
    spool.append(b"cd")
    spool.finish()
    assert (spool.size_bytes, spool.dropped_bytes, spool.refused) == (10, 4, None)
    assert (tmp_path / "stdout").read_bytes() == b"0123456789"
    assert (tmp_path / "stdout").stat().st_mode & 0o777 == 0o600


def test_a_full_disk_loses_bytes_and_says_why(directory, tmp_path):
    spool = SpoolWriter(directory, "stdout", max_bytes=10)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, spool._descriptor)
    os.close(full)
    spool.append(b"abc")
    spool.append(b"d")
    spool.finish()
    assert (spool.size_bytes, spool.dropped_bytes, spool.refused) == (0, 4, "No space left on device")


def test_a_symbolic_link_is_not_written_through(directory, tmp_path):
    (tmp_path / "stdout").symlink_to("/dev/full")
    with pytest.raises(OSError, match="symbolic links"):
        SpoolWriter(directory, "stdout", max_bytes=10)


class Times:
    """The clocks, as the test sets them."""

    def __init__(self):
        self.wall, self.elapsed = 1_000_000.0, 0.0

    def time(self):
        return self.wall

    def monotonic(self):
        return self.elapsed


@pytest.fixture
def times(monkeypatch):
    times = Times()
    monkeypatch.setattr("node_agent.supervisor.spool.time", times)
    return times


def test_each_byte_has_a_time_that_never_goes_back(directory, tmp_path, times):
    spool = SpoolWriter(directory, "stdout", max_bytes=1 << 20)
    for at, chunk in ((0.0, b"one"), (0.05, b"two"), (0.2, b"three"), (60.0, b"four")):
        times.elapsed, times.wall = at, times.wall - 3600
        spool.append(chunk)
    spool.finish()
    first_ms = 1_000_000_000
    found = entries(tmp_path / f"stdout{TIMES_SUFFIX}")
    assert found == [(0, first_ms), (6, first_ms + 200), (11, first_ms + 60_000)]


def test_the_index_grows_ever_more_slowly(directory, tmp_path, times, monkeypatch):
    spool = SpoolWriter(directory, "stdout", max_bytes=1 << 20)
    monkeypatch.setattr("node_agent.supervisor.spool.ENTRIES_PER_INTERVAL", 10)
    for _ in range(1000):
        spool.append(b"x")
        times.elapsed += 0.1
    spool.finish()
    assert len(entries(tmp_path / f"stdout{TIMES_SUFFIX}")) < 80
