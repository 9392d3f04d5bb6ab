"""Plans: which scripts a node is to run, in their order, and what they are told about it.

First the global scripts of the workspace by position, then those of each cluster that the node is in, clusters by name.
"""

import base64
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage import init_scripts, nodes
from control_plane.storage.records.init_scripts import InitScript
from control_plane.storage.records.nodes import Cluster, Node

DRIVER_LABEL, DRIVER = "role", "driver"
MOST_SCRIPTS_OF_A_NODE = 100


@dataclass(frozen=True, slots=True)
class Plan:
    """What one node is to run; `driver` says that it leads its clusters."""

    scripts: tuple[InitScript, ...]
    clusters: tuple[Cluster, ...]
    driver: bool

    def document(self, run: int, request_time: int) -> dict[str, Any]:
        """Return the plan as the node is handed it, with the time (milliseconds) at which it was asked for."""
        return {
            "run": run,
            "request_time": request_time,
            "driver": self.driver,
            "clusters": [{"cluster_id": one.cluster_id, "cluster": one.cluster} for one in self.clusters],
            "scripts": [_handed(script) for script in self.scripts],
        }

    def outline(self) -> list[dict[str, str]]:
        """Return which scripts they are, each with its hash."""
        return [{"script_id": one.script_id, "name": one.name, "sha256": one.sha256} for one in self.scripts]


NOTHING = Plan((), (), driver=False)


async def plan_for(session: AsyncSession, node: Node) -> Plan:
    """Return what a node is to run at this moment."""
    clusters = await init_scripts.clusters_of_node(session, node.node_id)
    scripts = list(await init_scripts.to_run(session, node.workspace_id))
    for cluster in clusters:
        scripts += await init_scripts.to_run(session, cluster.cluster_id)
    labels = (await nodes.extras(session, [node.node_id]))[node.node_id].labels
    return Plan(tuple(scripts), tuple(clusters), driver=labels.get(DRIVER_LABEL) == DRIVER)


def _handed(script: InitScript) -> dict[str, Any]:
    document = {
        "script_id": script.script_id,
        "name": script.name,
        "cluster_id": script.cluster_id,
        "sha256": script.sha256,
        "script": base64.b64encode(script.content).decode("ascii"),
        "secrets": script.secrets,
    }
    return {name: value for name, value in document.items() if value is not None}
