import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from relay.metrics import OTHER_WORKSPACES, RelayMetrics
from trunkline.channel.outcomes import Outcome

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
SUFFIX = {"counter": "_total"}


def test_the_document_names_every_metric_and_no_other():
    registry = CollectorRegistry()
    RelayMetrics(registry)
    exposed = {(family.name + SUFFIX.get(family.type, ""), family.type) for family in registry.collect()}
    rows = re.findall(r"^\| `(trunkline_relay_\w+)` \| (\w+) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(exposed)


def test_workspaces_past_the_cap_share_a_label():
    metrics = RelayMetrics(CollectorRegistry(), max_workspaces=2)
    first, second, third, fourth = (metrics.workspace(name) for name in ("a", "b", "c", "d"))
    assert first is metrics.workspace("a")
    assert first is not second
    assert third is fourth is metrics.workspace_calls.of(OTHER_WORKSPACES)


def test_refusals_are_counted_by_outcome():
    metrics = RelayMetrics(CollectorRegistry())
    metrics.refused(Outcome.WRONG_AUDIENCE)
    assert metrics.admission_refusals.of("wrong_audience").count == 1
