"""Init scripts with real daemons: order, environment, the first failure, kills in the middle, restarts."""

import base64
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.sandboxes import wait_until
from tests.support.small_fleet import WORKSPACE, SmallFleet

API = f"/w/{WORKSPACE}/api/2.0"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallFleet]:
    started = SmallFleet(tmp_path_factory.mktemp("fleet"))
    try:
        started.begin()
        yield started
    finally:
        started.end()


@pytest.fixture
def out() -> Iterator[Path]:
    """Where scripts, whoever runs them, may write."""
    directory = Path(tempfile.mkdtemp(prefix="trunkline-init-"))
    directory.chmod(0o777)
    yield directory / "out"
    shutil.rmtree(directory)


@pytest.fixture(autouse=True)
def no_scripts(fleet: SmallFleet) -> Iterator[None]:
    yield
    for script in fleet.api("GET", f"{API}/global-init-scripts")["scripts"]:
        fleet.api("DELETE", f"{API}/global-init-scripts/{script['script_id']}")


def put(fleet: SmallFleet, name: str, text: str, path: str = "global-init-scripts", **fields: Any) -> None:
    body = {"name": name, "script": base64.b64encode(text.encode()).decode(), "enabled": True, **fields}
    fleet.api("POST", f"{API}/{path}", body)


def init_of(fleet: SmallFleet, node: str) -> dict[str, Any]:
    return dict(fleet.api("GET", f"{API}/nodes/{node}")["init"])


def ended(fleet: SmallFleet, node: str, run: int = 1) -> dict[str, Any]:
    def final() -> dict[str, Any] | None:
        init = init_of(fleet, node)
        return init if init["run"] == run and init["state"] in ("READY", "INIT_FAILED") else None

    return dict(wait_until(final, f"the run {run} of {node} has ended:\n{fleet.log(node)[-2000:]}"))


def command(fleet: SmallFleet, node: str) -> dict[str, Any]:
    """Submit a command, and wait for its end."""
    body = {"target": {"node": node}, "argv": ["true"]}
    made = fleet.api("POST", f"{API}/commands", body)["commands"][0]
    path = f"{API}/commands/{made['command_id']}"

    def final() -> dict[str, Any] | None:
        found = fleet.api("GET", path)
        return found if found["state"] in ("SUCCEEDED", "FAILED", "LOST") else None

    return dict(wait_until(final, "the command has ended"))


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_order_environment_and_readiness(fleet: SmallFleet, out: Path) -> None:
    put(fleet, "second", f"echo second $DB_IS_DRIVER $TRUNKLINE_NODE_NAME >>{out}\n")
    put(fleet, "first", f"echo first $DB_CLUSTER_NAME >>{out}\n", position=0)
    put(fleet, "off", f"echo off >>{out}\n", enabled=False)
    fleet.api("POST", f"{API}/clusters", {"cluster": "red", "nodes": []})
    put(fleet, "of red", f"#!/bin/sh\nenv >{out}.env\nid -un >>{out}\n", "clusters/red/init-scripts")
    fleet.join("vm-1", cluster="red", labels={"role": "driver"})
    init = ended(fleet, "vm-1")
    assert (init["state"], [one["state"] for one in init["scripts"]]) == ("READY", ["SUCCEEDED"] * 3)
    assert lines(out) == ["first red", "second TRUE vm-1", "nobody"]
    told = dict(line.split("=", 1) for line in lines(Path(f"{out}.env")))
    identity = fleet.identity("vm-1")
    assert told["TRUNKLINE_NODE_ID"] == identity.node_id
    assert told["TRUNKLINE_WORKSPACE_ID"] == identity.workspace_id
    assert told["TRUNKLINE_CLUSTER_ID"] == told["DB_CLUSTER_ID"]
    assert (told["TRUNKLINE_IS_DRIVER"], told["DB_IS_JOB_CLUSTER"]) == ("TRUE", "FALSE")
    assert command(fleet, "vm-1")["state"] == "SUCCEEDED"
    for action, count in (("init_script.create", 4), ("node.init_handed", 1), ("node.init_ready", 1)):
        assert len(fleet.audit(action)) == count


def test_the_first_failure_stops_the_rest_and_the_node_takes_nothing(fleet: SmallFleet, out: Path) -> None:
    put(fleet, "good", f"echo good >>{out}\n")
    put(fleet, "bad", "echo half; echo no such package >&2; exit 42\n")
    put(fleet, "never", f"echo never >>{out}\n")
    fleet.join("vm-2")
    init = ended(fleet, "vm-2")
    assert (init["state"], lines(out)) == ("INIT_FAILED", ["good"])
    failed = init["scripts"][1]
    assert (failed["exit_code"], failed["stdout_tail"], failed["stderr_tail"]) == (42, "half\n", "no such package\n")
    refused = command(fleet, "vm-2")
    assert refused["state"] == "LOST"
    assert "the init script 'bad' failed: it exited with status 42" in refused["reason"]
    shown = wait_until(
        lambda: (one := fleet.api("GET", f"{API}/commands/{failed['command_id']}"))["state"] == "FAILED" and one,
        "the script is followed as a command",
    )
    assert (shown["argv"], shown["exit_code"]) == (["bad"], 42)
    mended = {"script": base64.b64encode(b"true\n").decode()}
    fleet.api("PATCH", f"{API}/global-init-scripts/bad", mended)
    fleet.api("POST", f"{API}/nodes/vm-2/init", {"run": 2})
    assert ended(fleet, "vm-2", 2)["state"] == "READY"
    assert lines(out) == ["good", "good", "never"]
    assert command(fleet, "vm-2")["state"] == "SUCCEEDED"


def test_a_node_that_is_being_initialised_says_so_and_then_runs_what_waits(fleet: SmallFleet, out: Path) -> None:
    put(fleet, "slow", f"while [ ! -e {out}.go ]; do sleep 0.05; done\n")
    fleet.join("vm-3")
    wait_until(lambda: init_of(fleet, "vm-3")["scripts"][0]["state"] == "RUNNING", "the script runs")
    made = fleet.api("POST", f"{API}/commands", {"target": {"node": "vm-3"}, "argv": ["true"]})["commands"][0]
    path = f"{API}/commands/{made['command_id']}"
    waiting = wait_until(lambda: (one := fleet.api("GET", path)).get("reason") and one, "why it waits is said")
    assert "the node is being initialised: script 1 of 1, 'slow'" in waiting["reason"]
    Path(f"{out}.go").touch()
    assert ended(fleet, "vm-3")["state"] == "READY"
    wait_until(lambda: fleet.api("GET", path)["state"] == "SUCCEEDED", "it ran then")


def test_killed_in_the_middle_nothing_runs_twice(fleet: SmallFleet, out: Path) -> None:
    """Whether the script outlives its agent or is lost with it: it ran once, and the node says which of both it was."""
    put(fleet, "one", f"echo one >>{out}\n")
    put(fleet, "two", f"echo two >>{out}; sleep 3; echo done >>{out}\n")
    put(fleet, "three", f"echo three >>{out}\n")
    fleet.join("vm-4")
    wait_until(lambda: "two" in lines(out), "the second script runs")
    fleet.kill("vm-4")
    fleet.start("vm-4")
    init = ended(fleet, "vm-4")
    states = [one["state"] for one in init["scripts"]]
    if init["state"] == "READY":
        assert (lines(out), states) == (["one", "two", "done", "three"], ["SUCCEEDED"] * 3)
    else:
        assert (lines(out)[:2], states) == (["one", "two"], ["SUCCEEDED", "LOST", "WAITING"])
        assert "three" not in lines(out)
    before = lines(out)
    for _ in range(2):
        fleet.kill("vm-4")
        fleet.start("vm-4")
    assert (lines(out), init_of(fleet, "vm-4")["state"]) == (before, init["state"])


def test_an_owner_who_allows_none(fleet: SmallFleet, out: Path) -> None:
    put(fleet, "one", f"echo one >>{out}\n")
    fleet.join("vm-5", policy="[init]\nenabled = false\n")
    init = ended(fleet, "vm-5")
    assert (init["state"], init["scripts"][0]["state"], lines(out)) == ("INIT_FAILED", "REFUSED", [])
    assert "the node's owner does not allow init scripts" in init["reason"]
