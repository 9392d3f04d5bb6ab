"""What a script finds in its environment: this project's names, and those that scripts written for Databricks expect.

Only what is true of this node is given. A cluster's names are there for the scripts of that cluster, and for global
ones where the node is in one cluster exactly. `DB_INSTANCE_TYPE` is never given, since the agent does not know it, and
`DB_DRIVER_IP` on the driver itself only, since no node knows another's address.
https://docs.databricks.com/init-scripts/environment-variables.html
"""

import socket

from node_agent.identity.node_identity import NodeIdentity
from node_agent.init_scripts.plan import InitPlan, PlannedCluster, PlannedScript

# Addresses for documentation (RFC 5737, RFC 3849): the kernel says from where it would send to them, nothing is sent.
_ELSEWHERE = ((socket.AF_INET, ("192.0.2.1", 9)), (socket.AF_INET6, ("2001:db8::1", 9)))


def environment_of(plan: InitPlan, script: PlannedScript, node: NodeIdentity, address: str | None) -> dict[str, str]:
    """Return the variables of one script; `address` is the node's own, where it is known."""
    variables = {
        "TRUNKLINE_NODE_ID": node.node_id,
        "TRUNKLINE_NODE_NAME": node.node,
        "TRUNKLINE_WORKSPACE_ID": node.workspace_id,
        "TRUNKLINE_WORKSPACE_NAME": node.workspace,
        "TRUNKLINE_INIT_RUN": str(plan.run),
        "TRUNKLINE_INIT_SCRIPT_ID": script.script_id,
        "TRUNKLINE_INIT_SCRIPT_NAME": script.name,
    }
    if address is not None:
        variables |= {"TRUNKLINE_NODE_ADDRESS": address, "DB_CONTAINER_IP": address}
    cluster = _cluster_of(plan, script)
    return variables if cluster is None else variables | _of_cluster(cluster, plan.driver, address)


def own_address() -> str | None:
    """Return the address of this machine from which it reaches the rest of the world; None without a route."""
    for family, elsewhere in _ELSEWHERE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect(elsewhere)
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return None


def _cluster_of(plan: InitPlan, script: PlannedScript) -> PlannedCluster | None:
    if script.cluster_id is not None:
        return next((one for one in plan.clusters if one.cluster_id == script.cluster_id), None)
    return plan.clusters[0] if len(plan.clusters) == 1 else None


def _of_cluster(cluster: PlannedCluster, driver: bool, address: str | None) -> dict[str, str]:
    is_driver = "TRUE" if driver else "FALSE"
    variables = {
        "TRUNKLINE_CLUSTER_ID": cluster.cluster_id,
        "TRUNKLINE_CLUSTER_NAME": cluster.cluster,
        "TRUNKLINE_IS_DRIVER": is_driver,
        "DB_CLUSTER_ID": cluster.cluster_id,
        "DB_CLUSTER_NAME": cluster.cluster,
        "DB_IS_DRIVER": is_driver,
        # There are no jobs that a cluster could have been made for.
        "DB_IS_JOB_CLUSTER": "FALSE",
    }
    return variables | ({"DB_DRIVER_IP": address} if driver and address is not None else {})
