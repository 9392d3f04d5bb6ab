"""What another release has left in the state directory: an agent that was taken back reads what the later one wrote.

A later release adds members to its documents, and an earlier one had fewer. Both are read as if they were this one's.
"""

import json
from dataclasses import asdict
from typing import Any

import pytest

from node_agent.commands.command import Command
from node_agent.commands.endings import take_ending
from node_agent.commands.records import parse_record
from node_agent.commands.start_plan import parse_start_plan
from node_agent.commands.states import CommandState
from node_agent.identity.attempts import AttemptFile
from node_agent.identity.node_identity import IdentityStore, NodeIdentity
from node_agent.init_scripts.plan import parse_plan
from node_agent.init_scripts.record import InitFiles, InitState
from tests.support.identities import NODE, NODE_ID, WORKSPACE, WORKSPACE_ID
from trunkline.runtime.logs import get_logger
from trunkline.runtime.secret import Secret

RECORD_OF_BEFORE = {
    "command_id": "c-4da4a8eb4e4359e6",
    "fingerprint": "f81d8bca1a2f02e957bfe839d58a6f262a6a1fde985d607175e96b0aac50f813",
    "argv": ["true"],
    "submit_time": 1795763922509,
    "submitted_by": "spiffe://trunkline.internal/control-plane",
    "run_id": "ab25dc9991ebe88a284e8761f66a5466",
    "boot_id": "8a880b01-d6e1-4e65-b740-6bae2f09f41d",
    "state": "RUNNING",
    "revision": 2,
    "user": "nobody",
    "timeout_seconds": 3600.0,
    "grace_seconds": 10.0,
    "limits": {"memory_bytes": None, "processes": 4096, "cpu_percent": None, "open_files": None},
    "max_output_bytes": 1073741824,
    "token_ids": {"f9546cbb43dbbf5ffade6f432bdbbd39": 1795764163},
    "pid": 18187,
    "pid_start_ticks": 4119058,
    "start_time": 1795763922556,
}
INIT_OF_BEFORE = {
    "instance": "acae34b79c845d8d6b1ff68a792654c0",
    "node_id": "nd-ensuy2cnbxv4nsjnvaj7",
    "state": "READY",
    "last_run": 1,
    "reason": None,
    "sequence": 2,
    "reported": 2,
    "scripts": [{"script_id": "is-mwqvk3ieelft5u2hhdvz", "name": "one", "state": "SUCCEEDED", "exit_code": 0}],
}
PLAN_OF_BEFORE: dict[str, Any] = {
    "run": 1,
    "driver": False,
    "clusters": [{"cluster_id": "cl-one", "cluster": "one"}],
    "scripts": [
        {
            "script_id": "is-mwqvk3ieelft5u2hhdvz",
            "name": "one",
            "sha256": "fe8edeeb98cc6d3b93cf2d57000254b84bd9eba34b4df7ce4b87db8b937b7703",
            "script": "dAo=",
        }
    ],
}
START_OF_BEFORE: dict[str, Any] = {"environment": {"A": "b"}, "stdin": "YWJj", "secret_versions": {}}
ENDING_OF_BEFORE: dict[str, Any] = {"exit_code": 0, "end_time": 1795763922.5, "output": [[3, 0, None], [4, 1, None]]}


def later(document: dict[str, Any]) -> dict[str, Any]:
    """The document with a member that is not known, and so in each object of its lists."""
    grown = {
        name: [later(one) if isinstance(one, dict) else one for one in value] if isinstance(value, list) else value
        for name, value in document.items()
    }
    return {**grown, "of_a_later_release": {"a": [1]}}


def content(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


def test_the_record_of_a_command() -> None:
    record = parse_record(content(RECORD_OF_BEFORE))
    assert parse_record(content(later(RECORD_OF_BEFORE))) == record
    assert parse_record(content(later(json.loads(record.to_json())))) == record
    assert {name: asdict(record)[name] for name in RECORD_OF_BEFORE if name != "state"} == {
        name: value for name, value in RECORD_OF_BEFORE.items() if name != "state"
    }


def test_what_the_start_of_a_command_needs() -> None:
    plan = parse_start_plan(content(START_OF_BEFORE))
    assert parse_start_plan(content(later(START_OF_BEFORE))) == plan
    assert (plan.environment, plan.stdin, plan.argv) == ({"A": "b"}, b"abc", None)


@pytest.mark.parametrize("said", [{}, {"of_a_later_release": 1, "output": [[3, 0, None, 7], [4, 1, None, 8]]}])
def test_what_a_supervisor_recorded_of_an_end(said: dict[str, Any]) -> None:
    command = Command(parse_record(content(RECORD_OF_BEFORE)), recorded=True)
    take_ending(command, ENDING_OF_BEFORE | said, now=0.0)
    record = command.record
    assert (record.state, record.stdout_bytes, record.stderr_bytes) == (CommandState.SUCCEEDED, 3, 4)


@pytest.mark.parametrize("document", [INIT_OF_BEFORE, later(INIT_OF_BEFORE)])
def test_how_far_the_initialisation_is(tmp_path, document: dict[str, Any]) -> None:
    path = tmp_path / "init.json"
    path.touch(mode=0o600)
    path.write_bytes(content(document))
    record = InitFiles(tmp_path, get_logger("test")).load()
    assert record is not None
    assert (record.state, record.last_run, record.reason) == (InitState.READY, 1, None)
    assert [(script.name, script.state, script.exit_code) for script in record.scripts] == [("one", "SUCCEEDED", 0)]


def test_the_plan_of_an_initialisation() -> None:
    assert parse_plan(content(later(PLAN_OF_BEFORE))) == parse_plan(content(PLAN_OF_BEFORE))


def test_the_identity_and_what_is_asked_for(tmp_path, kit) -> None:
    identity, store = kit.issue_node(), IdentityStore(tmp_path)
    names: dict[str, Any] = {"node_id": NODE_ID, "node": NODE, "workspace_id": WORKSPACE_ID, "workspace": WORKSPACE}
    secrets: dict[str, Any] = {"listen_token": Secret(kit.listen_token(identity)), "sealing_key": Secret("x")}
    store.save(NodeIdentity(identity=identity, name_suffix="trunk.internal", **names, **secrets))
    node = store.load()
    path = tmp_path / "identity.json"
    path.write_bytes(content(later(json.loads(path.read_bytes()))))
    found = store.load()
    assert found is not None
    assert node is not None
    assert (found.node_id, found.spiffe_id, found.listen_token.reveal()) == (
        node.node_id,
        node.spiffe_id,
        node.listen_token.reveal(),
    )
    attempts = AttemptFile(tmp_path / "renewal.json", get_logger("test"))
    attempt = attempts.begin()
    path = tmp_path / "renewal.json"
    path.write_bytes(content(later(json.loads(path.read_bytes()))))
    again = attempts.load()
    assert again is not None
    assert (again.csr, again.sealing_key.reveal()) == (attempt.csr, attempt.sealing_key.reveal())
