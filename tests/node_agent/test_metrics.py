import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from node_agent.machine import Machine
from node_agent.metrics import AgentMetrics, MachineCollector
from trunkline.runtime.clock import ManualClock

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_document_names_exactly_what_is_exposed(tmp_path):
    registry = CollectorRegistry()
    AgentMetrics(registry)
    registry.register(MachineCollector(Machine(tmp_path, ManualClock())))
    exposed = {
        family.name + ("_total" if family.type == "counter" else ""): family.type for family in registry.collect()
    }
    section = DOCUMENT.read_text().split("## Node agent")[1].split("\n## ")[0]
    documented = dict(re.findall(r"^\| `(trunkline_node_agent_\w+)` \| (\w+) \|", section, re.MULTILINE))
    assert documented == exposed
