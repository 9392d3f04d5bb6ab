"""`…/nodes/{node}/init` and `/api/2.0/nodes/self/init`: nodes ask for their init scripts, and say how they ended."""

from typing import Annotated, Any

from aiohttp import web
from pydantic import Field, StringConstraints

from control_plane.api.bootstrap import LARGEST_BODY_BYTES
from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext, the_node, the_workspace
from control_plane.api.requests import MachineRequest, OperatorRequest, Text, Word, read_body
from control_plane.api.responses import json_response
from control_plane.fleet.dispatcher import Dispatcher
from control_plane.fleet.init_notices import InitNotices
from control_plane.init_scripts.node_inits import InitReport, LastPlan, NodeInits
from control_plane.init_scripts.plans import MOST_SCRIPTS_OF_A_NODE
from control_plane.init_scripts.reports import STARTED, command_id_of, outline_of
from control_plane.init_scripts.states import reported_state
from control_plane.storage.records.init_scripts import NodeInit

PATH = "/w/{workspace}/api/2.0/nodes/{node}/init"
SELF_PATH = "/api/2.0/nodes/self/init"
LARGEST_REPORT_BYTES = 1024 * 1024
LONGEST_TAIL = 4096

Number = Annotated[int, Field(ge=0, lt=2**53)]
Instance = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Tail = Annotated[Text, Field(max_length=LONGEST_TAIL)]


class InitRequest(OperatorRequest):
    """An operator's wish: run the scripts under this number, the next one."""

    run: int = Field(ge=1, lt=2**53)


class PlanRequest(MachineRequest):
    """What the agent has on its disk: the name of its state directory, the number of its last plan, and its time."""

    instance: Instance
    last_run: Number
    last_request_time: Number = 0


class ScriptReport(MachineRequest):
    """What became of one script; the tails are those of one that ended the run."""

    script_id: str = Field(max_length=64)
    state: Word
    exit_code: int | None = Field(default=None, ge=-(2**31), lt=2**31)
    signal: int | None = Field(default=None, ge=0, le=255)
    reason: Text | None = Field(default=None, max_length=1024)
    start_time: Number | None = None
    end_time: Number | None = None
    stdout_tail: Tail | None = None
    stderr_tail: Tail | None = None


class Report(MachineRequest):
    """What the agent says of its run."""

    instance: Instance
    run: Number
    sequence: Number
    state: Word
    reason: Text | None = Field(default=None, max_length=1024)
    scripts: list[ScriptReport] = Field(default=[], max_length=MOST_SCRIPTS_OF_A_NODE)


class NodeInitResource:
    """The initialisation of nodes, as operators and agents see it."""

    def __init__(self, context: ApiContext, inits: NodeInits, notices: InitNotices, dispatcher: Dispatcher) -> None:
        self._context = context
        self._inits = inits
        self._notices = notices
        self._dispatcher = dispatcher

    def routes(self) -> list[Route]:
        """Return the routes of this resource: what is locked gets no scripts, and still says what became of some."""
        return [
            Route("POST", PATH, Role.OPERATOR, self.again),
            Route("POST", SELF_PATH, Role.NODE, self.hand),
            Route("POST", SELF_PATH + "/report", Role.NODE, self.report, while_locked=True),
        ]

    async def again(self, request: web.Request, caller: Caller) -> web.Response:
        """Have a node run its init scripts again; the number makes it safe to send twice."""
        body = await read_body(request, InitRequest)
        now = self._context.clock.now()
        async with self._context.database.write() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            node = await the_node(session, workspace, request.match_info["node"])
            row, new = await self._inits.again(session, node, body.run, caller.actor, now)
            view = init_view(row)
        if new:
            self._notices.look_again()
        return json_response(view, 201 if new else 200)

    async def hand(self, request: web.Request, caller: Caller) -> web.Response:
        """Hand the node what it is to run, if there is a run that it does not have."""
        body = await read_body(request, PlanRequest, largest_bytes=LARGEST_BODY_BYTES)
        plan = await self._inits.hand(
            caller.subject_id,
            caller.workspace_id,
            caller.serial,
            has=LastPlan(body.instance, body.last_run, body.last_request_time),
            actor=caller.actor,
        )
        return json_response(plan)

    async def report(self, request: web.Request, caller: Caller) -> web.Response:
        """Take in what the node says, and follow its scripts as commands."""
        body = await read_body(request, Report, largest_bytes=LARGEST_REPORT_BYTES)
        state = reported_state(body.state)
        unknown = f"the node says that it is {body.state}, which this release of the control plane does not know"
        report = InitReport(
            instance=body.instance,
            run=body.run,
            sequence=body.sequence,
            state=state,
            reason=body.reason if state is not None else unknown,
            scripts=[script.model_dump() for script in body.scripts],
        )
        taken = await self._inits.take_report(caller.subject_id, caller.workspace_id, report, caller.actor)
        for key in taken.commands:
            self._dispatcher.kick(key, caller.subject_id)
        if taken.ready:
            self._dispatcher.kick_node(caller.subject_id)
        return json_response({})


def init_view(row: NodeInit) -> dict[str, Any]:
    """Return a node's initialisation as the API shows it."""
    view = {
        "run": row.run,
        "state": row.state,
        "reason": row.reason,
        "requested_by": row.requested_by,
        "request_time": row.request_time,
        "hand_time": row.hand_time,
        "report_time": row.report_time,
        "scripts": [_script_view(row, script) for script in outline_of(row)],
    }
    return {name: value for name, value in view.items() if value is not None}


def _script_view(row: NodeInit, script: dict[str, Any]) -> dict[str, Any]:
    """Return one script; from its start on it is a command of the node too."""
    if script["state"] not in STARTED:
        return script
    return {**script, "command_id": command_id_of(row.run, script["script_id"], row.node_id)}
