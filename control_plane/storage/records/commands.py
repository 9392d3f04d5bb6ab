"""Commands, the submissions they are of, what happened to them, and how their output is kept."""

from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.record import COUNTER, Record


class Submission(Record):
    """One accepted request to run a command; the hash of its body tells a repetition from a conflict.

    `spec` is what nodes are sent. It may hold secrets, so it is forgotten as soon as no node needs it any more.
    `secrets` names the workspace secrets that it refers to, never their values. `named` and `parameters` stand in place
    of `argv`, which is then empty, where a command of the node's owner is meant.
    `rollout` is how its commands are let go: the plan with every share as a number. While `rollout_open`, `wave` is
    under way; since `wave_over_time` it is over, and the next one pauses. `stop_reason` says why what no node had yet
    was ended.
    """

    __tablename__ = "submissions"
    __table_args__ = (Index(None, "rollout_open"), Index(None, "workspace_id", "creation_time", "submission_id"))

    workspace_id: Mapped[str] = mapped_column(ForeignKey(Workspace.workspace_id), primary_key=True)
    submission_id: Mapped[str] = mapped_column(primary_key=True)
    body_sha256: Mapped[str]
    argv: Mapped[list[str]]
    named: Mapped[str | None]
    parameters: Mapped[dict[str, Any] | None]
    spec: Mapped[dict[str, Any] | None]
    secrets: Mapped[dict[str, Any] | None]
    submitted_by: Mapped[str]
    creation_time: Mapped[int]
    rollout: Mapped[dict[str, Any] | None]
    rollout_open: Mapped[bool] = mapped_column(default=False)
    wave: Mapped[int | None]
    wave_over_time: Mapped[int | None]
    stop_reason: Mapped[str | None] = mapped_column(String(1024))


class Command(Record):
    """One process to run on one node.

    `delivered` says that the node has it; `maybe_delivered_until` that an attempt ended without an answer, and until
    when (milliseconds) the node could still accept it. A command that is `held` waits for its `wave`, or for its turn
    in it, and no node hears of it. `unknown_since` is set while the state is UNKNOWN; `event_count` counts
    its events, those too that were not written down any more.
    """

    __tablename__ = "commands"
    __table_args__ = (
        Index(None, "submission_id", "workspace_id", "final", "delivered"),
        Index(None, "workspace_id", "submit_time", "command_id"),
        Index(None, "workspace_id", "state", "submit_time", "command_id"),
        Index(None, "workspace_id", "node", "submit_time", "command_id"),
        Index(None, "node_id", "submit_time", "command_id"),
        Index(None, "final", "end_time"),
    )

    workspace_id: Mapped[str] = mapped_column(ForeignKey(Workspace.workspace_id), primary_key=True)
    command_id: Mapped[str] = mapped_column(primary_key=True)
    submission_id: Mapped[str]
    node_id: Mapped[str]
    node: Mapped[str]
    state: Mapped[str]
    final: Mapped[bool]
    delivered: Mapped[bool]
    maybe_delivered_until: Mapped[int | None]
    deliver_before: Mapped[int]
    cancel_requested: Mapped[bool]
    held: Mapped[bool] = mapped_column(default=False)
    wave: Mapped[int | None]
    exit_code: Mapped[int | None]
    signal: Mapped[int | None]
    reason: Mapped[str | None] = mapped_column(String(1024))
    submit_time: Mapped[int]
    start_time: Mapped[int | None]
    end_time: Mapped[int | None]
    stdout_bytes: Mapped[int]
    stderr_bytes: Mapped[int]
    stdout_dropped_bytes: Mapped[int | None]
    stderr_dropped_bytes: Mapped[int | None]
    unknown_since: Mapped[int | None]
    event_count: Mapped[int] = mapped_column(server_default="0")


class CommandEvent(Record):
    """One thing that happened to a command; `event` is of `EventKind`."""

    __tablename__ = "command_events"
    __table_args__ = (Index(None, "workspace_id", "command_id", "event_id"),)

    event_id: Mapped[int] = mapped_column(COUNTER, primary_key=True, autoincrement=True)
    workspace_id: Mapped[str]
    command_id: Mapped[str]
    time: Mapped[int]
    event: Mapped[str]
    details: Mapped[dict[str, Any]]


class KeptOutput(Record):
    """How the output of an ended command is kept: `state` is wanted, kept or gone (nothing was left to be fetched).

    The sizes are those of the whole; head and tail are how much of its beginning and end is in the command's file.
    `times` has, by stream, pairs of an offset and a time.
    """

    __tablename__ = "kept_outputs"
    __table_args__ = (Index(None, "state", "keep_time", "kept_bytes"),)

    workspace_id: Mapped[str] = mapped_column(primary_key=True)
    command_id: Mapped[str] = mapped_column(primary_key=True)
    node_id: Mapped[str]
    state: Mapped[str]
    fetch_before: Mapped[int]
    stdout_bytes: Mapped[int]
    stdout_head_bytes: Mapped[int]
    stdout_tail_bytes: Mapped[int]
    stderr_bytes: Mapped[int]
    stderr_head_bytes: Mapped[int]
    stderr_tail_bytes: Mapped[int]
    kept_bytes: Mapped[int]
    keep_time: Mapped[int | None]
    times: Mapped[dict[str, Any] | None]
