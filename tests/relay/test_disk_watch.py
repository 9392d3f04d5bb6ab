from prometheus_client import CollectorRegistry

from relay.disk_watch import DiskWatch
from relay.metrics import RelayMetrics
from trunkline.runtime.logs import get_logger


def test_what_the_disk_does_not_take_is_remarked_until_it_does() -> None:
    registry, kept = CollectorRegistry(), {"a": True, "b": True}
    keep = {name: (lambda name=name: kept[name]) for name in kept}
    watch = DiskWatch(keep, RelayMetrics(registry), get_logger("test"))

    def look() -> tuple[str | None, float | None]:
        watch.look()
        return watch.remark(), registry.get_sample_value("trunkline_relay_unkept_files")

    assert look() == (None, 0)
    kept["b"] = False
    assert look() == ("the disk does not take these, which a restart would lose: b", 1)
    kept["a"] = False
    assert look()[1] == 2
    kept.update(a=True, b=True)
    assert look() == (None, 0)
