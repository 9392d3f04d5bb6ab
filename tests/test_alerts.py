"""deploy/prometheus/alerts.yml tells of all that docs/metrics.md says is worth an alert, by metrics that exist."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from node_agent.metrics import AgentMetrics
from relay.metrics import RelayMetrics
from tests.support.control_planes import running_control_plane
from trunkline.runtime.daemon_metrics import daemon_registry

ROOT = Path(__file__).parents[1]
EXPRESSIONS = re.findall(
    r"- alert: (\w+)\n +expr: >-\n +(.+)$", (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(), re.MULTILINE
)
ROWS = re.findall(
    r"^\| `(trunkline_\w+)` \| (\w+) \| ([^|]+) \| (.+) \|$", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE
)
TYPES = {name: kind for name, kind, _, _ in ROWS}
LABELS = {name: re.findall(r"`(\w+)`", labels) for name, _, labels, _ in ROWS}
MEANINGS = {name: meaning for name, _, _, meaning in ROWS}
SELECTOR = re.compile(r'(trunkline_\w+)(?:\{(\w+)=~?"([\w|-]+)"\})?')


def test_every_alert_of_the_document_is_there():
    told = {name for _, expression in EXPRESSIONS for name, _, _ in SELECTOR.findall(expression)}
    assert {name for name, meaning in MEANINGS.items() if re.search(r"\*\*.*[Aa]lert", meaning)} <= told


def test_names_are_each_alerts_own():
    names = [name for name, _ in EXPRESSIONS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("alert", "expression"), EXPRESSIONS)
def test_an_alert_asks_for_what_is_exposed(alert: str, expression: str):
    selected = SELECTOR.findall(expression)
    assert selected, alert
    for name, label, values in selected:
        assert name in TYPES
        if label:
            assert label in LABELS[name]
            assert all(f"`{value}`" in MEANINGS[name] for value in values.split("|"))


@pytest.mark.parametrize(("alert", "expression"), EXPRESSIONS)
def test_counters_are_asked_for_their_increase(alert: str, expression: str):
    for name, _, _ in SELECTOR.findall(expression):
        counted = re.search(rf"(?:increase|rate)\({name}\b", expression) is not None
        assert counted is (TYPES[name] == "counter"), alert


async def test_what_is_to_be_told_of_at_its_first_increase_is_there_as_zero(tmp_path: Path):
    """Prometheus sees no increase in a series that begins with 1."""
    of_relay, of_agent = CollectorRegistry(), CollectorRegistry()
    RelayMetrics(of_relay)
    AgentMetrics(of_agent)
    shown: dict[str, list[dict[str, str]]] = {}
    async with running_control_plane(tmp_path) as plane:
        for registry in (daemon_registry(), of_relay, of_agent, plane.foundation.registry):
            for sample in (sample for family in registry.collect() for sample in family.samples):
                shown.setdefault(sample.name, []).append(sample.labels)
    absent = [
        f"{alert}: {name} {value}"
        for alert, expression in EXPRESSIONS
        if "increase(" in expression
        for name, label, values in SELECTOR.findall(expression)
        for value in values.split("|")
        if not any(value in ("", labels.get(label)) for labels in shown.get(name, []))
    ]
    assert absent == []
