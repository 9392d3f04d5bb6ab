"""The variables of a script: what is true of the node, and nothing else."""

import ipaddress

import pytest

from node_agent.init_scripts.environment import environment_of, own_address
from node_agent.init_scripts.plan import InitPlan, read_plan
from tests.node_agent.init_scripts.conftest import entry, handed

RED, BLUE = {"cluster_id": "cl-red", "cluster": "red"}, {"cluster_id": "cl-blue", "cluster": "blue"}


class Node:
    """The parts of an identity that are told."""

    node_id, node, workspace_id, workspace = "nd-1", "vm-1", "ws-1", "finance"


def variables(plan: InitPlan, address: str | None = "10.0.0.7", number: int = 0) -> dict[str, str]:
    return environment_of(plan, plan.scripts[number], Node(), address)  # type: ignore[arg-type]


def test_a_global_script_on_a_node_of_no_cluster():
    told = variables(read_plan(handed(("a", b"true"))))
    assert told == {
        "TRUNKLINE_NODE_ID": "nd-1",
        "TRUNKLINE_NODE_NAME": "vm-1",
        "TRUNKLINE_WORKSPACE_ID": "ws-1",
        "TRUNKLINE_WORKSPACE_NAME": "finance",
        "TRUNKLINE_INIT_RUN": "1",
        "TRUNKLINE_INIT_SCRIPT_ID": entry("a", b"")["script_id"],
        "TRUNKLINE_INIT_SCRIPT_NAME": "a",
        "TRUNKLINE_NODE_ADDRESS": "10.0.0.7",
        "DB_CONTAINER_IP": "10.0.0.7",
    }


@pytest.mark.parametrize(("driver", "word"), [(True, "TRUE"), (False, "FALSE")])
def test_a_global_script_on_a_node_of_one_cluster(driver: bool, word: str):
    told = variables(read_plan(handed(("a", b"true"), clusters=[RED], driver=driver)))
    assert told["TRUNKLINE_CLUSTER_ID"] == told["DB_CLUSTER_ID"] == "cl-red"
    assert told["TRUNKLINE_CLUSTER_NAME"] == told["DB_CLUSTER_NAME"] == "red"
    assert told["TRUNKLINE_IS_DRIVER"] == told["DB_IS_DRIVER"] == word
    assert told["DB_IS_JOB_CLUSTER"] == "FALSE"
    assert told.get("DB_DRIVER_IP") == ("10.0.0.7" if driver else None)
    assert "DB_INSTANCE_TYPE" not in told


def test_of_several_clusters_a_script_is_told_its_own_and_a_global_one_none():
    plan = handed(("a", b"true"), clusters=[BLUE, RED])
    plan["scripts"].append(entry("b", b"true") | {"cluster_id": "cl-red"})
    read = read_plan(plan)
    assert "DB_CLUSTER_ID" not in variables(read)
    assert variables(read, number=1)["DB_CLUSTER_ID"] == "cl-red"


def test_an_address_that_is_not_known_is_not_told():
    told = variables(read_plan(handed(("a", b"true"), clusters=[RED], driver=True)), address=None)
    assert not {"TRUNKLINE_NODE_ADDRESS", "DB_CONTAINER_IP", "DB_DRIVER_IP"} & told.keys()


def test_the_own_address_is_one():
    address = own_address()
    assert address is None or ipaddress.ip_address(address)
