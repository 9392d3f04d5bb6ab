"""What every daemon says of its process."""

from prometheus_client import CollectorRegistry

from trunkline.runtime.daemon_metrics import daemon_registry


def blocks(registry: CollectorRegistry) -> float:
    value = registry.get_sample_value("trunkline_python_allocated_blocks")
    assert value is not None
    return value


def test_what_is_kept_shows_in_the_blocks() -> None:
    registry = daemon_registry()
    before = blocks(registry)
    kept = [object() for _ in range(100_000)]
    assert blocks(registry) - before > 90_000
    kept.clear()
    assert blocks(registry) - before < 50_000
