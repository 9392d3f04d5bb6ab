import pytest
from prometheus_client import CollectorRegistry, generate_latest

from relay.tallies import Distributions, Tallies


def shown(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def test_counts_are_shown_as_prometheus_counters():
    registry = CollectorRegistry()
    calls = Tallies("calls", "Calls.", ("door", "outcome"), registry=registry)
    tally = calls.of("proxy", "forwarded")
    tally.count += 3
    assert calls.of("proxy", "forwarded") is tally
    assert 'calls_total{door="proxy",outcome="forwarded"} 3.0' in shown(registry)


def test_gauges_go_down():
    registry = CollectorRegistry()
    links = Tallies("links", "Links.", gauge=True, registry=registry)
    links.of().count += 2
    links.of().count -= 1
    assert "\nlinks 1.0" in shown(registry)


def test_label_values_must_be_complete():
    with pytest.raises(ValueError, match="labels"):
        Tallies("calls", "Calls.", ("door",), registry=CollectorRegistry()).of()


def test_names_are_checked_for_duplicates():
    registry = CollectorRegistry()
    Tallies("calls", "Calls.", registry=registry)
    with pytest.raises(ValueError, match="Duplicated"):
        Tallies("calls", "Calls.", registry=registry)


def test_distributions_are_cumulative():
    registry = CollectorRegistry()
    seconds = Distributions("seconds", "Seconds.", "door", registry=registry, bounds=(0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        seconds.of("link").observe(value)
    text = shown(registry)
    assert 'seconds_bucket{door="link",le="0.1"} 2.0' in text
    assert 'seconds_bucket{door="link",le="1.0"} 3.0' in text
    assert 'seconds_bucket{door="link",le="+Inf"} 4.0' in text
    assert 'seconds_sum{door="link"} 7.65' in text
