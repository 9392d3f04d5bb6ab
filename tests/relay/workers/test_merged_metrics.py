import asyncio
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from relay.metrics import RelayMetrics
from relay.workers.merged_metrics import ADDED_UP, GAUGES, MergedMetrics, families_of
from trunkline.runtime.daemon_metrics import daemon_registry


class Party:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = RelayMetrics(self.registry)


def page_of(parent: Party, *workers: Party) -> MergedMetrics:
    page = MergedMetrics(parent.registry)
    for place, worker in enumerate(workers, start=1):
        page.take(place, 0, families_of(worker.registry))
    return page


def value(page: MergedMetrics, name: str, **labels: str) -> float | None:
    return page.registry().get_sample_value(f"trunkline_relay_{name}", labels)


def test_every_gauge_of_the_relay_has_a_rule_and_no_other_has():
    registry = daemon_registry()
    RelayMetrics(registry)
    gauges = {family.name for family in registry.collect() if family.type not in ADDED_UP}
    assert gauges == set(GAUGES)


def test_counters_and_histograms_are_added_up():
    parent, one, two = Party(), Party(), Party()
    one.metrics.calls.of("proxy", "forwarded").count = 3
    two.metrics.calls.of("proxy", "forwarded").count = 4
    two.metrics.calls.of("link", "forwarded").count = 1
    one.metrics.call_seconds.of("proxy").observe(0.002)
    two.metrics.call_seconds.of("proxy").observe(0.2)
    parent.metrics.reports_sent.of().count = 7
    page = page_of(parent, one, two)
    assert value(page, "calls_total", door="proxy", outcome="forwarded") == 7
    assert value(page, "calls_total", door="link", outcome="forwarded") == 1
    assert value(page, "call_seconds_bucket", door="proxy", le="0.0025") == 1
    assert value(page, "call_seconds_bucket", door="proxy", le="+Inf") == 2
    assert value(page, "call_seconds_count", door="proxy") == 2
    assert value(page, "reports_sent_total") == 7


def test_descriptors_are_those_of_the_process_that_is_nearest_to_its_bound():
    registries = [CollectorRegistry() for _ in range(3)]
    for registry, open_fds in zip(registries, (20, 180, 150), strict=True):
        Gauge("process_open_fds", "Open.", registry=registry).set(open_fds)
        Gauge("process_max_fds", "Bound.", registry=registry).set(256)
    page = MergedMetrics(registries[0])
    for place, registry in enumerate(registries[1:], start=1):
        page.take(place, 0, families_of(registry))
    seen = page.registry()
    assert (seen.get_sample_value("process_open_fds"), seen.get_sample_value("process_max_fds")) == (180, 256)


def test_gauges_follow_their_rules():
    parent, one, two = Party(), Party(), Party()
    for party, sequence, expiry, links in ((one, 8, 2000.0, 5), (two, 7, 1000.0, 6)):
        party.metrics.trust_sequence.set(sequence)
        party.metrics.certificate_expiry.set(expiry)
        party.metrics.links.of("listener").count = links
        party.metrics.workers.set(0)
    parent.metrics.trust_sequence.set(9)
    parent.metrics.workers.set(2)
    page = page_of(parent, one, two)
    assert value(page, "trust_document_sequence") == 7
    assert value(page, "certificate_expiry_timestamp_seconds") == 1000
    assert value(page, "links_open", role="listener") == 11
    assert value(page, "workers_up") == 2


def test_no_counter_goes_back_when_a_worker_ends():
    parent, one, two = Party(), Party(), Party()
    one.metrics.calls.of("proxy", "forwarded").count = 3
    one.metrics.links.of("listener").count = 1
    page = page_of(parent, one, two)
    page.ended(1)
    assert value(page, "calls_total", door="proxy", outcome="forwarded") == 3
    assert value(page, "links_open", role="listener") is None
    again = Party()
    again.metrics.calls.of("proxy", "forwarded").count = 2
    page.take(1, 0, families_of(again.registry))
    assert value(page, "calls_total", door="proxy", outcome="forwarded") == 5


def test_both_forms_of_the_exposition_take_the_page():
    parent, one = Party(), Party()
    one.metrics.call_seconds.of("proxy").observe(0.002)
    page = page_of(parent, one)
    assert generate_latest(page.registry())
    assert generate_openmetrics(page.registry()).endswith(b"# EOF\n")


def test_gathering_waits_for_those_that_were_asked_and_not_for_those_that_end():
    page = MergedMetrics(CollectorRegistry())
    asked: list[int] = []

    def ask(question: int) -> list[int]:
        asked.append(question)
        return [1, 2]

    async def scenario() -> None:
        page.subscribe(ask)
        gathering = asyncio.ensure_future(page.gather())
        await asyncio.sleep(0)
        page.take(1, asked[0], [])
        await asyncio.sleep(0)
        assert not gathering.done()
        page.ended(2)
        async with asyncio.timeout(30):
            await gathering

    asyncio.run(scenario())


def test_a_metric_of_which_only_one_party_knows_is_shown() -> None:
    own, other = CollectorRegistry(), CollectorRegistry()
    Counter("own", "Own.", registry=own).inc(2)
    Gauge("unknown", "Unknown.", registry=other).set(4)
    page = MergedMetrics(own)
    page.take(1, 0, families_of(other))
    shown: Any = page.registry()
    assert shown.get_sample_value("own_total") == 2
    assert shown.get_sample_value("unknown") == 4
