"""The metrics registry of a daemon, with what every daemon says of its process."""

import contextlib
import sys
import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Gauge, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from trunkline.runtime.log_writer import log_writer
from trunkline.version import __version__


class _ProcessCollector(ProcessCollector):
    """The client's own, which says nothing at all where it may not read when the machine was started.

    That is in ``/proc/stat``, which is not there for a unit with ``ProcSubset=pid``.
    """

    def _boot_time(self) -> float:
        with contextlib.suppress(OSError):
            if told := super()._boot_time():  # type: ignore[no-untyped-call]
                return float(told)
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


class _LogCollector(Collector):
    """Counts the lines that nobody took."""

    def collect(self) -> Iterable[Metric]:
        writer = log_writer()
        lost = 0 if writer is None else writer.lost
        yield CounterMetricFamily("trunkline_log_lines_lost", "Lines of the log that nobody took.", value=lost)


def daemon_registry(*, proc: str = "/proc") -> CollectorRegistry:
    """A new registry with the `process_` and `python_` metrics of the Prometheus client, and what is like them.

    Args:
        proc: where the kernel tells of processes.
    """
    registry = CollectorRegistry()
    _ProcessCollector(proc=proc, registry=registry)
    for collector in (PlatformCollector, GCCollector):
        collector(registry=registry)
    # Resident memory moves with the allocator's pages; blocks are counted, and something kept for each call shows.
    blocks = Gauge("trunkline_python_allocated_blocks", "Blocks of memory that Python objects hold.", registry=registry)
    blocks.set_function(sys.getallocatedblocks)
    registry.register(_LogCollector())
    build = Gauge("trunkline_build_info", "Always 1; the version is a label.", ["version"], registry=registry)
    build.labels(__version__).set(1)
    return registry
