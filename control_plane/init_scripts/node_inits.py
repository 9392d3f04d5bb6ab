"""Initialisations: a node asks for its scripts, says what became of them, and may be asked to run them again.

Theory of operation. Each run has a number. The agent keeps the highest number whose plan it has on its disk, and says
it when it asks, together with a name that it once made up for its state directory. A higher number than it has is
handed; asked again before that plan is on the agent's disk, the same number is handed again, and nothing has run yet.
With a plan goes the time at which it was asked for, which the agent says too: so a database that was restored from a
backup knows what has been run since, and has the node say again how that ended. Another state directory (the machine
was made anew) gets a number of its own, once for each bootstrap. Nothing is ever handed unasked.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from certs.spiffe import control_plane_id
from control_plane.errors import ApiError, ErrorCode, conflict
from control_plane.init_scripts.plans import MOST_SCRIPTS_OF_A_NODE, NOTHING, Plan, plan_for
from control_plane.init_scripts.reports import STARTED, WAITING, command_records, failed_script, merged, outline_of
from control_plane.init_scripts.states import Answer, InitState, judge_request
from control_plane.metrics import ControlPlaneMetrics
from control_plane.storage import certificates, commands, node_inits, nodes
from control_plane.storage.audit import Actor, Happening, append
from control_plane.storage.commands import CommandKey
from control_plane.storage.database import Database
from control_plane.storage.endings import of_node, refuse_ended
from control_plane.storage.records.init_scripts import NodeInit
from control_plane.storage.records.nodes import Node
from trunkline.runtime.clock import Clock

LONGEST_REASON = 1024


@dataclass(frozen=True, slots=True)
class LastPlan:
    """What an agent has on its disk.

    Attributes:
        instance: the name of its state directory.
        run: the highest number whose plan it ever had; 0 for none.
        request_time: when that was asked for (milliseconds), as the plan said; 0 where it said nothing.
    """

    instance: str
    run: int
    request_time: int = 0


@dataclass(frozen=True, slots=True)
class InitReport:
    """What a node says: how its run stands, and each script; `sequence` grows with each report of an agent.

    `state` is None where the node's word for it is not known here: nothing is guessed, and the run stands as it did.
    """

    instance: str
    run: int
    sequence: int
    state: InitState | None
    reason: str | None
    scripts: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Taken:
    """What a report brought: commands to follow from now on, and whether the node takes commands now."""

    commands: tuple[CommandKey, ...] = ()
    ready: bool = False


def begin(session: AsyncSession, node_id: str, now_ms: int) -> None:
    """Note that a new node is to be initialised."""
    session.add(_new_row(node_id, now_ms))


class NodeInits:
    """Hands plans to nodes and takes in what they say."""

    def __init__(self, *, database: Database, trust_domain: str, metrics: ControlPlaneMetrics, clock: Clock) -> None:
        self._database = database
        self._submitted_by = str(control_plane_id(trust_domain))
        self._metrics = metrics
        self._clock = clock
        for state in (one for one in InitState if one.final):
            metrics.node_inits.labels(state.value.lower())  # shown from the start, as 0

    async def hand(
        self, node_id: str, workspace_id: str, serial: str, *, has: LastPlan, actor: Actor
    ) -> dict[str, Any]:
        """Return the plan of the node's next run, or one without scripts where there is nothing to run.

        Args:
            node_id: the node, which has proved to be it.
            workspace_id: its workspace.
            serial: of the certificate that it has proved it with.
            has: what it has on its disk.
            actor: the node as the audit names it.

        Raises:
            ApiError: its bootstrap is not confirmed, it names another state directory without another bootstrap, more
                scripts are for it than a node runs, or it has ended, or was locked, since it was let in.
        """
        now = self._clock.now()
        async with self._database.write() as session:
            await refuse_ended(session, of_node(workspace_id, node_id, serial), int(now * 1000))
            node = await _confirmed(session, workspace_id, node_id, serial)
            row = await node_inits.find(session, node_id)
            if row is None:
                row = _new_row(node_id, int(now * 1000))
                session.add(row)
            await _check_instance(session, row, has.instance)
            _number(row, has)
            if row.run <= has.run:
                return NOTHING.document(row.run, row.request_time) | {"report": _is_missed(row, has)}
            plan = await plan_for(session, node)
            _bound(plan)
            self._note(session, row, node, plan, actor, now)
            return plan.document(row.run, row.request_time)

    async def take_report(self, node_id: str, workspace_id: str, report: InitReport, actor: Actor) -> Taken:
        """Record what a node says; one of another run, or an older one than that heard last, changes nothing."""
        now = self._clock.now()
        async with self._database.write() as session:
            node = await _existing(session, workspace_id, node_id)
            row = await node_inits.find(session, node_id)
            if row is None or (row.instance, row.run) != (report.instance, report.run):
                return Taken()
            if report.sequence <= row.report_sequence:
                return Taken()
            state = report.state or InitState(row.state)
            ended = state.final and not InitState(row.state).final
            scripts = merged(outline_of(row), report.scripts)
            row.report, row.report_sequence, row.report_time = {"scripts": scripts}, report.sequence, int(now * 1000)
            row.state, row.reason = state.value, (report.reason or "")[:LONGEST_REASON] or None
            if ended:
                append(session, now, actor, _ended(row, node, scripts))
            keys = await self._follow(session, row, node, scripts, int(now * 1000))
        if ended:
            self._metrics.node_inits.labels(state.value.lower()).inc()
        return Taken(keys, ready=state is InitState.READY)

    async def again(
        self, session: AsyncSession, node: Node, run: int, actor: Actor, now: float
    ) -> tuple[NodeInit, bool]:
        """Have the node run its scripts under this number, the next one; return the record, and whether it is new.

        Raises:
            ApiError: the number is not the next, or an initialisation is under way.
        """
        row = await node_inits.find(session, node.node_id)
        last, state = (row.run, InitState(row.state)) if row is not None else (0, None)
        answer = judge_request(run, last, state, requested=row is not None and row.requested_by is not None)
        if answer is Answer.REFUSE or (row is None and answer is Answer.SAME):
            raise conflict(_refusal(last, state))
        if row is not None and answer is Answer.SAME:
            return row, False
        if row is None:
            row = _new_row(node.node_id, int(now * 1000))
            session.add(row)
        row.run, row.state, row.reason = run, InitState.PENDING.value, None
        row.report, row.report_sequence, row.hand_time, row.report_time = None, 0, None, None
        row.requested_by, row.request_time = actor.name, int(now * 1000)
        details = {"node_id": node.node_id, "run": run}
        append(session, now, actor, Happening("node.init", "ok", node.node, node.workspace_id, details))
        return row, True

    def _note(self, session: AsyncSession, row: NodeInit, node: Node, plan: Plan, actor: Actor, now: float) -> None:
        """Note what is handed; a node that has nothing to run is ready, and is not in the audit for that.

        A node whose machine was put back to before this run counts its reports from there, so all of them are new.
        """
        row.hand_time, row.report_sequence = int(now * 1000), 0
        row.state = (InitState.INITIALISING if plan.scripts else InitState.READY).value
        row.report = {"scripts": [{**script, "state": WAITING} for script in plan.outline()]}
        if not plan.scripts:
            self._metrics.node_inits.labels("ready").inc()
            return
        details = {"node_id": node.node_id, "run": row.run, "scripts": plan.outline()}
        append(session, now, actor, Happening("node.init_handed", "ok", node.node, node.workspace_id, details))

    async def _follow(
        self, session: AsyncSession, row: NodeInit, node: Node, scripts: list[dict[str, Any]], now_ms: int
    ) -> tuple[CommandKey, ...]:
        """Make the records of the scripts that the node has started, once each."""
        keys = []
        for script in scripts:
            if script["state"] not in STARTED:
                continue
            submission, command = command_records(row, node, script, self._submitted_by, now_ms)
            key = CommandKey(command.workspace_id, command.command_id)
            if await commands.find(session, key) is None:
                session.add_all([submission, command])
                keys.append(key)
        return tuple(keys)


def _new_row(node_id: str, now_ms: int) -> NodeInit:
    return NodeInit(node_id=node_id, run=1, state=InitState.PENDING.value, report_sequence=0, request_time=now_ms)


async def _check_instance(session: AsyncSession, row: NodeInit, instance: str) -> None:
    """Refuse a state directory that the node cannot have: a node that lies would get runs, and records, without end."""
    if row.instance in (None, instance) or row.state == InitState.PENDING.value:
        return
    if not await certificates.bootstrapped_since(session, row.node_id, row.hand_time or 0):
        message = "the init scripts were handed to another state directory, and the node has not bootstrapped since"
        raise conflict(f"{message}: ask for another run (trunkline node init)")


def _number(row: NodeInit, has: LastPlan) -> None:
    """Give the run its number: another state directory begins anew, and no number is given twice to one."""
    if row.instance not in (None, has.instance):
        row.run, row.state, row.requested_by = row.run + 1, InitState.PENDING.value, None
        row.report, row.report_sequence, row.report_time = None, 0, None
    row.instance = has.instance
    if row.state == InitState.PENDING.value and row.run <= has.run and row.request_time > has.request_time:
        row.run = has.run + 1


def _is_missed(row: NodeInit, has: LastPlan) -> bool:
    """Whether it is not known here how a run that the node has had ended; it becomes the one that is heard of."""
    if InitState(row.state).final:
        return False
    if row.run != has.run or row.state == InitState.PENDING.value:
        row.run, row.state, row.report = has.run, InitState.INITIALISING.value, None
    return True


def _bound(plan: Plan) -> None:
    if len(plan.scripts) > MOST_SCRIPTS_OF_A_NODE:
        message = f"{len(plan.scripts)} init scripts are for this node, and it runs {MOST_SCRIPTS_OF_A_NODE} at most"
        raise ApiError(ErrorCode.RESOURCE_EXHAUSTED, message, retry_after_seconds=60)


def _refusal(run: int, state: InitState | None) -> str:
    if state is InitState.INITIALISING:
        return f"the node is being initialised (run {run}): wait for its end, or cancel the script's command"
    return f"the node's last initialisation has the number {run}: ask for {run + 1}"


def _ended(row: NodeInit, node: Node, scripts: list[dict[str, Any]]) -> Happening:
    details: dict[str, Any] = {"node_id": node.node_id, "run": row.run}
    if row.state == InitState.READY.value:
        return Happening("node.init_ready", "ok", node.node, node.workspace_id, details)
    failed = failed_script(scripts)
    if failed is not None:
        named = ("script_id", "name", "sha256", "state", "exit_code", "signal")
        details["script"] = {name: failed[name] for name in named if name in failed}
    details["reason"] = row.reason or ""
    return Happening("node.init_failed", "failed", node.node, node.workspace_id, details)


async def _existing(session: AsyncSession, workspace_id: str, node_id: str) -> Node:
    node = await nodes.find(session, workspace_id, node_id)
    if node is None:
        raise ApiError(ErrorCode.UNAUTHENTICATED, "this node was deleted")
    return node


async def _confirmed(session: AsyncSession, workspace_id: str, node_id: str, serial: str) -> Node:
    node = await _existing(session, workspace_id, node_id)
    certificate = await certificates.find(session, serial)
    unproved = certificate is None or (certificate.origin == "bootstrap" and certificate.confirm_time is None)
    if node.confirm_time is None or unproved:
        raise ApiError(ErrorCode.PERMISSION_DENIED, "confirm the bootstrap first: init scripts come after it")
    return node
