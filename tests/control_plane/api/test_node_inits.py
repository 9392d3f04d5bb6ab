"""What a node is handed to run, what it says of it, and being asked to do it again."""

import base64
import hashlib
import time
from typing import Any

import pytest
from sqlalchemy import select

from control_plane.storage.records.certificates import Certificate
from control_plane.storage.records.init_scripts import NodeInit
from tests.control_plane.api.test_init_scripts import create, encoded
from tests.support.control_planes import EnrolledNode, RunningControlPlane

SELF = "/api/2.0/nodes/self/init"
SCRIPTS = "/w/finance/api/2.0/global-init-scripts"
CLUSTERS = "/w/finance/api/2.0/clusters"
NODE = "/w/finance/api/2.0/nodes/vm-1"
HERE, ELSEWHERE = "a" * 32, "b" * 32


async def ask(
    plane: RunningControlPlane, node: EnrolledNode, last_run: int = 0, instance: str = HERE, last_request_time: int = 0
) -> dict[str, Any]:
    body = {"instance": instance, "last_run": last_run, "last_request_time": last_request_time}
    return await plane.ok("POST", SELF, body, identity=node.identity)


async def say(plane: RunningControlPlane, node: EnrolledNode, sequence: int, state: str, **fields: Any) -> None:
    body = {"instance": HERE, "run": 1, "sequence": sequence, "state": state, **fields}
    await plane.ok("POST", f"{SELF}/report", body, identity=node.identity)


async def init_of(plane: RunningControlPlane) -> dict[str, Any]:
    return dict((await plane.ok("GET", NODE))["init"])


def script(plan: dict[str, Any], number: int, state: str, **fields: Any) -> dict[str, Any]:
    return {"script_id": plan["scripts"][number]["script_id"], "state": state, **fields}


@pytest.fixture
async def handed(plane: RunningControlPlane) -> tuple[RunningControlPlane, EnrolledNode, dict[str, Any]]:
    """A new node that was handed two scripts."""
    await plane.workspace()
    await create(plane, "a", enabled=True)
    await create(plane, "b", enabled=True)
    node = await plane.node()
    return plane, node, await ask(plane, node)


async def test_the_plan_has_the_workspaces_scripts_and_then_the_clusters(plane: RunningControlPlane):
    await plane.workspace()
    for cluster in ("red", "blue"):
        await plane.ok("POST", CLUSTERS, {"cluster": cluster, "nodes": []})
        await create(plane, f"of {cluster}", f"{CLUSTERS}/{cluster}/init-scripts", enabled=True)
    await create(plane, "b", enabled=True)
    await create(plane, "off")
    await create(plane, "a", enabled=True, position=0)
    node = await plane.node(cluster="red", labels={"role": "driver"})
    await plane.ok("PATCH", f"{CLUSTERS}/blue", {"add": ["vm-1"]})
    plan = await ask(plane, node)
    assert [one["name"] for one in plan["scripts"]] == ["a", "b", "of blue", "of red"]
    assert (plan["run"], plan["driver"]) == (1, True)
    assert [one["cluster"] for one in plan["clusters"]] == ["blue", "red"]
    assert plan["scripts"][2]["cluster_id"] == plan["clusters"][0]["cluster_id"]
    for one in plan["scripts"]:
        assert hashlib.sha256(base64.b64decode(one["script"])).hexdigest() == one["sha256"]
    [event] = await plane.audit(action="node.init_handed")
    assert [one["name"] for one in event["details"]["scripts"]] == ["a", "b", "of blue", "of red"]
    assert event["details"]["scripts"][0]["sha256"] == plan["scripts"][0]["sha256"]


async def test_a_node_without_scripts_is_ready_at_once(plane: RunningControlPlane):
    node = await plane.node()
    assert (await init_of(plane))["state"] == "PENDING"
    assert (await ask(plane, node))["scripts"] == []
    assert (await init_of(plane))["state"] == "READY"
    assert await plane.audit(action="node.init_handed") == []


async def test_nothing_is_handed_before_the_confirmation(plane: RunningControlPlane):
    from certs.chains import CertificateChain
    from certs.identities import Identity

    await plane.workspace()
    await create(plane, "a", enabled=True)
    body, key = await plane.bootstrap_body(await plane.join_token())
    answer = await plane.ok("POST", "/api/2.0/bootstrap", body, token=None)
    identity = Identity(key, CertificateChain.from_pem(answer["certificate_chain"]))
    refused = await plane.call("POST", SELF, {"instance": HERE, "last_run": 0}, identity=identity)
    assert (refused.status, refused.error_code) == (403, "PERMISSION_DENIED")


async def test_a_lost_answer_is_repeated_and_what_is_stored_is_not_handed_again(handed):
    plane, node, plan = handed
    assert await ask(plane, node) == plan
    done = await ask(plane, node, last_run=1)
    assert (done["run"], done["scripts"]) == (1, [])


async def bootstrapped_again(plane: RunningControlPlane) -> None:
    """The node has bootstrapped a moment after it was handed its scripts."""
    async with plane.database.write() as session:
        for certificate in (await session.scalars(select(Certificate).where(Certificate.origin == "bootstrap"))).all():
            certificate.confirm_time = int(time.time() * 1000) + 1


async def test_another_state_directory_gets_a_run_of_its_own(handed):
    plane, node, plan = handed
    await bootstrapped_again(plane)
    again = await ask(plane, node, instance=ELSEWHERE)
    assert (again["run"], again["scripts"]) == (2, plan["scripts"])
    await say(plane, node, 9, "READY")  # of the directory that is no more
    assert (await init_of(plane))["state"] == "INITIALISING"


async def test_state_directories_that_are_made_up_get_nothing(handed):
    plane, node, _ = handed
    for number in range(3):
        refused = await plane.call("POST", SELF, {"instance": f"{number:032x}", "last_run": 0}, identity=node.identity)
        assert (refused.status, refused.error_code) == (409, "RESOURCE_CONFLICT")
    assert (await init_of(plane))["run"] == 1
    assert len(await plane.audit(action="node.init_handed")) == 1


async def test_a_state_directory_that_lost_its_record_gets_the_run_that_an_operator_asks_for(handed):
    plane, node, plan = handed
    await say(plane, node, 1, "INIT_FAILED", reason="the record is damaged")
    await plane.ok("POST", f"{NODE}/init", {"run": 2})
    again = await ask(plane, node, instance=ELSEWHERE)
    assert (again["run"] > 1, again["scripts"]) == (True, plan["scripts"])


async def test_a_failure_is_shown_with_its_output_and_audited(handed):
    plane, node, plan = handed
    failed = script(plan, 1, "FAILED", exit_code=3, stderr_tail="no such package\n")
    scripts = [script(plan, 0, "SUCCEEDED", exit_code=0), failed]
    await say(plane, node, 1, "INIT_FAILED", reason="the init script 'b' failed", scripts=scripts)
    view = await plane.ok("GET", NODE)
    assert (view["init_state"], view["init_reason"]) == ("INIT_FAILED", "the init script 'b' failed")
    assert [one["state"] for one in view["init"]["scripts"]] == ["SUCCEEDED", "FAILED"]
    assert view["init"]["scripts"][1]["stderr_tail"] == "no such package\n"
    listed = (await plane.ok("GET", "/w/finance/api/2.0/nodes"))["nodes"][0]
    assert (listed["init_state"], "init" in listed) == ("INIT_FAILED", False)
    [event] = await plane.audit(action="node.init_failed")
    assert event["outcome"] == "failed"
    assert event["details"]["script"]["sha256"] == plan["scripts"][1]["sha256"]
    assert event["details"]["script"]["exit_code"] == 3


async def test_a_report_counts_once_and_the_newest_counts(handed):
    plane, node, plan = handed
    await say(plane, node, 2, "READY", scripts=[script(plan, 0, "SUCCEEDED"), script(plan, 1, "SUCCEEDED")])
    await say(plane, node, 1, "INITIALISING", scripts=[script(plan, 0, "RUNNING")])
    await say(plane, node, 2, "INIT_FAILED")
    await say(plane, node, 7, "INIT_FAILED", run=2)
    assert (await init_of(plane))["state"] == "READY"
    assert len(await plane.audit(action="node.init_ready")) == 1


async def test_a_machine_that_was_put_back_to_before_its_run_is_heard_of_though_it_counts_anew(handed):
    plane, node, plan = handed
    await say(plane, node, 5, "READY", scripts=[script(plan, 0, "SUCCEEDED"), script(plan, 1, "SUCCEEDED")])
    assert await ask(plane, node) == plan
    assert (await init_of(plane))["state"] == "INITIALISING"
    await say(plane, node, 3, "READY", scripts=[script(plan, 0, "SUCCEEDED"), script(plan, 1, "SUCCEEDED")])
    assert (await init_of(plane))["state"] == "READY"


async def test_what_was_not_handed_is_not_believed(handed):
    plane, node, plan = handed
    foreign = {"script_id": "is-" + "z" * 20, "state": "RUNNING"}
    await say(plane, node, 1, "INITIALISING", scripts=[foreign, script(plan, 0, "RUNNING")])
    assert [one["state"] for one in (await init_of(plane))["scripts"]] == ["RUNNING", "WAITING"]
    commands = (await plane.ok("GET", "/w/finance/api/2.0/commands"))["commands"]
    assert [one["command_id"] for one in commands] == [f"init-1-{plan['scripts'][0]['script_id']}.{node.node_id}"]
    assert (commands[0]["argv"], commands[0]["node"]) == (["a"], "vm-1")


async def test_a_script_is_a_command_once_it_has_started(handed):
    plane, node, plan = handed
    for sequence, state in enumerate(("RUNNING", "SUCCEEDED"), 1):
        await say(plane, node, sequence, "INITIALISING", scripts=[script(plan, 0, state)])
    command_id = (await init_of(plane))["scripts"][0]["command_id"]
    assert [one["command_id"] for one in (await plane.ok("GET", "/w/finance/api/2.0/commands"))["commands"]] == [
        command_id
    ]


async def test_asked_for_again(handed):
    plane, node, _plan = handed
    early = await plane.call("POST", f"{NODE}/init", {"run": 2})
    assert (early.status, early.error_code) == (409, "RESOURCE_CONFLICT")
    await say(plane, node, 5, "INIT_FAILED", reason="x")
    assert (await plane.call("POST", f"{NODE}/init", {"run": 3})).status == 409
    await plane.ok("PATCH", f"{SCRIPTS}/b", {"script": encoded(b"mended")})
    first = await plane.call("POST", f"{NODE}/init", {"run": 2})
    second = await plane.call("POST", f"{NODE}/init", {"run": 2})
    assert (first.status, second.status) == (201, 200)
    assert (await init_of(plane))["state"] == "PENDING"
    again = await ask(plane, node, last_run=1)
    assert again["run"] == 2
    assert base64.b64decode(again["scripts"][1]["script"]) == b"mended"
    await say(plane, node, 6, "READY", run=2)
    assert (await init_of(plane))["state"] == "READY"
    assert len(await plane.audit(action="node.init")) == 1


async def test_a_database_that_forgot_runs_gives_no_number_twice(handed):
    """After a restore: the agent has run 5, the database knows of one; the next that is asked for is the sixth."""
    plane, node, _plan = handed
    await say(plane, node, 1, "READY")
    assert (await ask(plane, node, last_run=5))["scripts"] == []
    await plane.ok("POST", f"{NODE}/init", {"run": 2})
    assert (await ask(plane, node, last_run=5))["run"] == 6


async def test_a_database_that_forgot_the_end_of_a_run_hears_of_it_again(handed):
    """Restored from a backup of while the node was initialised: nothing is run again, and nothing waits for ever."""
    plane, node, plan = handed
    done = await ask(plane, node, last_run=1, last_request_time=plan["request_time"])
    assert (done["scripts"], done["report"]) == ([], True)
    await say(plane, node, 7, "READY")
    assert (await init_of(plane))["state"] == "READY"
    assert not (await ask(plane, node, last_run=1, last_request_time=plan["request_time"]))["report"]


@pytest.mark.parametrize("asked_for", [1, 2])
async def test_a_database_that_forgot_that_a_run_was_handed_does_not_hand_it_again(handed, asked_for: int):
    """Restored from a backup of before the node had asked, be it that it was new or that an operator wanted it."""
    plane, node, plan = handed
    if asked_for == 2:
        await say(plane, node, 1, "READY")
        await plane.ok("POST", f"{NODE}/init", {"run": 2})
        plan = await ask(plane, node, last_run=1, last_request_time=plan["request_time"])
    async with plane.database.write() as session:
        row = await session.get(NodeInit, node.node_id)
        assert row is not None
        row.state, row.report, row.hand_time, row.report_sequence = "PENDING", None, None, 0
    again = await ask(plane, node, last_run=asked_for, last_request_time=plan["request_time"])
    assert (again["run"], again["scripts"], again["report"]) == (asked_for, [], True)
    await say(plane, node, 7, "READY", run=asked_for)
    assert (await init_of(plane))["state"] == "READY"
    # What is asked for now is run.
    await plane.ok("POST", f"{NODE}/init", {"run": asked_for + 1})
    wanted = await ask(plane, node, last_run=asked_for, last_request_time=plan["request_time"])
    assert (wanted["run"], len(wanted["scripts"])) == (asked_for + 1, 2)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"instance": "short", "last_run": 0},
        {"instance": HERE, "last_run": -1},
        {"instance": HERE, "last_run": "1"},
    ],
)
async def test_questions_that_are_none(plane: RunningControlPlane, body: dict[str, Any]):
    node = await plane.node()
    assert (await plane.call("POST", SELF, body, identity=node.identity)).status == 400


async def test_states_of_a_later_release_are_told_and_nothing_is_made_of_them(handed):
    plane, node, plan = handed
    scripts = [script(plan, 0, "SKIPPED"), script(plan, 1, "RUNNING")]
    await say(plane, node, 1, "ROLLING_BACK", scripts=scripts)
    init = await init_of(plane)
    assert init["state"] == "INITIALISING"
    assert "ROLLING_BACK" in init["reason"]
    assert [(one["state"], "command_id" in one) for one in init["scripts"]] == [("SKIPPED", False), ("RUNNING", True)]
    await say(plane, node, 2, "READY")
    init = await init_of(plane)
    assert (init["state"], "reason" in init) == ("READY", False)


async def test_a_locked_node_gets_no_scripts_and_still_reports(handed):
    plane, node, _plan = handed
    lock = {"kind": "node", "id": node.node_id, "lifetime_seconds": 600, "reason": "x"}
    await plane.ok("POST", "/api/2.0/locks", lock)
    refused = await plane.call("POST", SELF, {"instance": HERE, "last_run": 0}, identity=node.identity)
    assert refused.status == 403
    await say(plane, node, 1, "READY")
    assert (await init_of(plane))["state"] == "READY"
