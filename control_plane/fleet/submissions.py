"""Submitting: a request to run something becomes one recorded command per node, before any node hears of it."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.errors import ApiError, ErrorCode, conflict, invalid, not_found_in
from control_plane.fleet.rollouts import Plan, cut_into_waves, share
from control_plane.secrets.contents import required_versions
from control_plane.secrets.references import names_in
from control_plane.storage import clusters, commands, nodes
from control_plane.storage.nodes import NodeFilter
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.commands import Command, Submission
from control_plane.storage.records.nodes import Node

MOST_NODES = 10_000
LONGEST_COMMAND_ID = 128
COMMANDS_AT_ONCE = 250
NODES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Target:
    """Which nodes: exactly one of these is set."""

    node: str | None = None
    cluster: str | None = None
    selector: dict[str, str] | None = None
    every: bool = False


@dataclass(frozen=True, slots=True)
class RolloutOrder:
    """How to let the commands go: numbers of nodes, or shares of them as `N%`; see `planned`."""

    canary: int | str | None = None
    waves: tuple[int | str, ...] = ()
    max_concurrent: int | str | None = None
    max_failures: int | str | None = None
    pause_seconds: float = 0.0

    def planned(self, nodes: int) -> Plan:
        """Return the plan for so many nodes.

        The canary is a wave before the others; the last size of a wave is that of all that follow. Where there are
        waves, no failure is allowed unless it says how many; where there are none, any number is.
        """
        sizes = [self.canary, *self.waves] if self.canary is not None else [*self.waves]
        if self.canary is not None and not self.waves:
            sizes.append("100%")
        allowed = self.max_failures if self.max_failures is not None or not sizes else 0
        return Plan(
            waves=cut_into_waves(nodes, [share(size, nodes, least=1) for size in sizes]),
            canary=self.canary is not None,
            max_concurrent=nodes if self.max_concurrent is None else share(self.max_concurrent, nodes, least=1),
            max_failures=None if allowed is None else share(allowed, nodes, least=0),
            pause_milliseconds=round(self.pause_seconds * 1000),
        )


@dataclass(frozen=True, slots=True)
class Order:
    """What to run where; `spec` is what nodes are sent, times are milliseconds."""

    submission_id: str
    target: Target
    spec: dict[str, Any]
    submitted_by: str
    submit_time: int
    deliver_before: int
    rollout: RolloutOrder | None = None

    def fingerprint(self) -> str:
        """Return the hash by which a repetition is told from a conflict; without a rollout it says nothing of one."""
        target = {
            "node": self.target.node,
            "cluster": self.target.cluster,
            "selector": self.target.selector,
            "all": self.target.every,
        }
        rollout = [] if self.rollout is None else [asdict(self.rollout)]
        text = json.dumps([target, self.spec, *rollout], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Accepted:
    """The submission with its commands; `new` is False for a repetition."""

    submission: Submission
    commands: Sequence[Command]
    new: bool


async def submit(
    session: AsyncSession,
    workspace: Workspace,
    order: Order,
    *,
    most_open: int,
    note: Callable[[Sequence[Command]], None] = lambda _: None,
) -> Accepted:
    """Record a submission; the same id with the same body gives what it gave before.

    Args:
        session: the transaction.
        workspace: where.
        order: what.
        most_open: how many commands of the workspace may be open.
        note: called with new commands as they are recorded, some at a time.

    Raises:
        ApiError: the id is taken by another body, the target is nothing, or too much is open.
    """
    known = await commands.find_submission(session, workspace.workspace_id, order.submission_id)
    if known is not None:
        if known.body_sha256 != order.fingerprint():
            raise conflict("the command id was used for something else")
        found = await commands.of_submission(session, workspace.workspace_id, order.submission_id)
        return Accepted(known, found, new=False)
    targets = await _targets(session, workspace, order.target)
    if await commands.count_open(session, workspace.workspace_id) + len(targets) > most_open:
        raise ApiError(
            ErrorCode.RESOURCE_EXHAUSTED, f"the workspace may have {most_open} open commands", retry_after_seconds=10
        )
    plan = order.rollout.planned(len(targets)) if order.rollout is not None else None
    submission = _submission(workspace, order, plan)
    rows = [_command(workspace, order, node) for node in targets]
    if plan is not None:
        _hold(rows, plan)
    if await _any_taken(session, workspace, rows):
        raise conflict("the command id was used for something else")
    await _require_secrets(session, workspace, submission, targets)
    session.add(submission)
    for start in range(0, len(rows), COMMANDS_AT_ONCE):
        some = rows[start : start + COMMANDS_AT_ONCE]
        session.add_all(some)
        note(some)
        await session.flush()
        await asyncio.sleep(0)  # thousands take seconds to write, in which everybody else has a turn
    return Accepted(submission, rows, new=True)


async def _require_secrets(
    session: AsyncSession, workspace: Workspace, submission: Submission, targets: Sequence[Node]
) -> None:
    """Tell the nodes which versions of the secrets are meant: those of now, or later ones.

    The versions are no part of what was asked for: the same order sent again after a rotation is the same order.
    """
    names = names_in(submission.secrets)
    if names and submission.spec is not None:
        versions = await required_versions(session, workspace, targets, names)
        submission.spec = submission.spec | {"secret_versions": versions}


async def _targets(session: AsyncSession, workspace: Workspace, target: Target) -> Sequence[Node]:
    if target.node is not None:
        node = await nodes.find(session, workspace.workspace_id, target.node)
        if node is None:
            raise not_found_in(workspace.workspace, "node", field="target.node")
        return [node]
    if target.cluster is not None and await clusters.find(session, workspace.workspace_id, target.cluster) is None:
        raise not_found_in(workspace.workspace, "cluster", field="target.cluster")
    wanted = NodeFilter(cluster=target.cluster, labels=target.selector or {})
    found: list[Node] = []
    while len(found) <= MOST_NODES:
        after = found[-1].node if found else None
        page = await nodes.select_nodes(session, workspace.workspace_id, wanted, after=after, most=NODES_AT_ONCE)
        found += page
        if len(page) < NODES_AT_ONCE:
            break
        await asyncio.sleep(0)
    if not found:
        raise invalid("target", "no node of the workspace matches it")
    if len(found) > MOST_NODES:
        raise invalid("target", f"more than {MOST_NODES} nodes are meant by it")
    return found


async def _any_taken(session: AsyncSession, workspace: Workspace, rows: Sequence[Command]) -> bool:
    ids = [row.command_id for row in rows]
    for start in range(0, len(ids), 1000):
        if await commands.taken_ids(session, workspace.workspace_id, ids[start : start + 1000]):
            return True
    return False


def _submission(workspace: Workspace, order: Order, plan: Plan | None) -> Submission:
    return Submission(
        workspace_id=workspace.workspace_id,
        submission_id=order.submission_id,
        body_sha256=order.fingerprint(),
        argv=order.spec.get("argv", []),
        named=order.spec.get("named"),
        parameters=order.spec.get("parameters"),
        spec=order.spec,
        secrets=order.spec.get("secrets"),
        submitted_by=order.submitted_by,
        creation_time=order.submit_time,
        rollout=None if plan is None else asdict(plan),
        rollout_open=plan is not None,
        wave=None if plan is None else 0,
    )


def _hold(rows: Sequence[Command], plan: Plan) -> None:
    """Give each command its wave, in the order of the nodes' names, and let none go yet."""
    waves = (wave for wave, size in enumerate(plan.waves) for _ in range(size))
    for row, wave in zip(rows, waves, strict=True):
        row.held, row.wave = True, wave


def _command(workspace: Workspace, order: Order, node: Node) -> Command:
    """Return the record of one node's command; a node target's id is exactly the one asked for."""
    command_id = order.submission_id
    if order.target.node is None:
        command_id = f"{command_id}.{node.node_id}"
    if len(command_id) > LONGEST_COMMAND_ID:
        raise invalid("command_id", "too long: with the node's id at its end it would exceed 128 characters")
    return Command(
        workspace_id=workspace.workspace_id,
        command_id=command_id,
        submission_id=order.submission_id,
        node_id=node.node_id,
        node=node.node,
        state="QUEUED",
        final=False,
        delivered=False,
        deliver_before=order.deliver_before,
        cancel_requested=False,
        held=False,
        submit_time=order.submit_time,
        stdout_bytes=0,
        stderr_bytes=0,
    )
