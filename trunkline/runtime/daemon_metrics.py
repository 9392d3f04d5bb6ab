"""The metrics registry of a daemon, with what every daemon says of its process."""

import sys

from prometheus_client import CollectorRegistry, Gauge, GCCollector, PlatformCollector, ProcessCollector


def daemon_registry() -> CollectorRegistry:
    """A new registry with the `process_` and `python_` metrics of the Prometheus client, and the blocks in use."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    # Resident memory moves with the allocator's pages; blocks are counted, and something kept for each call shows.
    blocks = Gauge("trunkline_python_allocated_blocks", "Blocks of memory that Python objects hold.", registry=registry)
    blocks.set_function(sys.getallocatedblocks)
    return registry
