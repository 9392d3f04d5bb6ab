"""What a node says of its initialisation, and what is kept of it: what it was handed, with what became of each."""

from collections.abc import Iterable, Mapping
from typing import Any

from control_plane.storage.records.commands import Command, Submission
from control_plane.storage.records.init_scripts import NodeInit
from control_plane.storage.records.nodes import Node

WAITING = "WAITING"
STARTED = frozenset({"QUEUED", "RUNNING", "CANCELLING", "SUCCEEDED", "FAILED", "TIMED_OUT", "CANCELLED", "LOST"})
"""The states of a script that is a command of its node too; those that wait, or were refused, are none."""
_WELL = frozenset({WAITING, "QUEUED", "RUNNING", "SUCCEEDED"})
_TAKEN_OVER = ("state", "exit_code", "signal", "reason", "start_time", "end_time", "stdout_tail", "stderr_tail")


def command_id_of(run: int, script_id: str, node_id: str) -> str:
    """Return the id of the command that a script is on its node."""
    return f"init-{run}-{script_id}.{node_id}"


def outline_of(row: NodeInit) -> list[dict[str, Any]]:
    """Return the scripts of the run, as they were handed and with what is known of each."""
    return list((row.report or {}).get("scripts", []))


def merged(handed: Iterable[Mapping[str, Any]], said: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the scripts that were handed, each with what the node says of it; what was not handed is ignored."""
    by_id = {one["script_id"]: one for one in said}
    return [_with(script, by_id.get(script["script_id"], {})) for script in handed]


def failed_script(scripts: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the script that ended the run, if one did."""
    return next((one for one in scripts if one["state"] not in _WELL), None)


def command_records(
    row: NodeInit, node: Node, script: Mapping[str, Any], submitted_by: str, now_ms: int
) -> tuple[Submission, Command]:
    """Return the records by which a script that the node has started is followed, read and cancelled as a command."""
    command_id = command_id_of(row.run, str(script["script_id"]), node.node_id)
    submission = Submission(
        workspace_id=node.workspace_id,
        submission_id=command_id,
        body_sha256=str(script["sha256"]),
        argv=[str(script["name"])],
        submitted_by=submitted_by,
        creation_time=now_ms,
    )
    command = Command(
        workspace_id=node.workspace_id,
        command_id=command_id,
        submission_id=command_id,
        node_id=node.node_id,
        node=node.node,
        state="QUEUED",
        final=False,
        delivered=True,
        deliver_before=now_ms,
        cancel_requested=False,
        submit_time=now_ms,
        stdout_bytes=0,
        stderr_bytes=0,
    )
    return submission, command


def _with(script: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: said[name] for name in _TAKEN_OVER if said.get(name) is not None}
    return {name: script[name] for name in ("script_id", "name", "sha256")} | {"state": WAITING} | told
