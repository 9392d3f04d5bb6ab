"""docs/metrics.md names what the control plane exposes, and nothing else."""

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from control_plane.metrics import ControlPlaneMetrics, NodeCensus, NodeStanding

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
SUFFIX = {"counter": "_total"}


def test_the_document_names_every_metric_and_no_other():
    registry = CollectorRegistry()
    ControlPlaneMetrics(registry)
    standing = NodeStanding("finance", "vm-1", up=True, state="online", seen_time=1.0, rtt_seconds=0.1)
    registry.register(NodeCensus(lambda: [standing], most_nodes=1))
    exposed = {(family.name + SUFFIX.get(family.type, ""), family.type) for family in registry.collect()}
    section = DOCUMENT.read_text().partition("\n## Control plane\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", section, re.MULTILINE)
    assert sorted(rows) == sorted(exposed)
