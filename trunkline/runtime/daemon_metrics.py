"""The metrics registry of a daemon, with what every daemon says of its process."""

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector


def daemon_registry() -> CollectorRegistry:
    """A new registry with the `process_` and `python_` metrics of the Prometheus client."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry
