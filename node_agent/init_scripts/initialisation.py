"""Initialisation: a new node gets its scripts, runs them one after the other, and only then takes commands.

Theory of operation. `InitRecord` says where the node is. A bootstrap that makes this machine a node leaves the record
`DUE` before the identity is in force; nothing else does, so that an agent that starts again, or is upgraded, runs
nothing. While it is `DUE`, or when a notice says that an operator wants it, the control plane is asked, over mTLS, for
a plan. Its number must be above every one that was ever on this disk. The plan is stored, then the record says
`INITIALISING` with its number, and only then does anything run.

Each script is a command of the ledger under an id that holds the number and the script. The ledger takes an id once and
has its intent on the disk before it starts anything: so a script runs at most once, whatever is killed when. An agent
that finds itself `INITIALISING` goes through the stored plan again: what has ended is not asked for, what the ledger
knows is waited for, and what it does not know has certainly not run. A command whose outcome is not known (`LOST`)
fails the run with that reason, as does everything but exit status 0; what comes after it is not run.
"""

import asyncio
import contextlib
import random
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from certs.errors import KeyFileError
from certs.spiffe import control_plane_id
from node_agent.commands.command import Command
from node_agent.commands.errors import CommandRefused, RefusalReason
from node_agent.commands.ledger import CommandLedger
from node_agent.commands.records import OutputStream
from node_agent.commands.states import CommandState
from node_agent.commands.submitter import Submitter
from node_agent.identity.control_plane import ControlPlane
from node_agent.identity.credentials import Credentials
from node_agent.init_scripts.environment import environment_of, own_address
from node_agent.init_scripts.plan import InitPlan, PlannedScript, PlanRefused, read_plan
from node_agent.init_scripts.readiness import Readiness
from node_agent.init_scripts.record import InitFiles, InitRecord, InitState, ScriptOutcome, new_record
from node_agent.init_scripts.reporting import InitReporting
from node_agent.init_scripts.script_command import command_id_of, submission_of
from node_agent.init_scripts.tails import tail_of
from node_agent.metrics import AgentMetrics
from node_agent.policy_file import PolicySource
from trunkline.client.control_plane_answers import ControlPlaneRefused, ControlPlaneUnreachable
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger
from trunkline.runtime.threads import in_thread

PLAN_PATH = "/api/2.0/nodes/self/init"
BACKOFF_CAP_SECONDS = 60.0
POLL_SECONDS = 0.1
SHORTEST_INTERVAL_SECONDS = 1.0
"""Between two questions, whoever asks for them: notices come through a relay, which could send any number."""
STORE_AGAIN_SECONDS = 30.0
"""After so long the disk is given again what it did not take."""
# A control plane of an earlier release has no init scripts.
HAS_NONE = frozenset({404, 405})
_TRY_AGAIN = frozenset({RefusalReason.STOPPING, RefusalReason.TOO_MANY, RefusalReason.NO_STORAGE})


@dataclass(frozen=True, slots=True)
class InitParts:
    """What an initialisation stands on."""

    control_plane: ControlPlane
    credentials: Credentials
    ledger: CommandLedger
    policy: PolicySource
    files: InitFiles
    readiness: Readiness
    metrics: AgentMetrics
    clock: Clock
    rng: random.Random
    log: Logger


class _Failed(Exception):  # noqa: N818 - how a run ends
    """The run has failed; the message says why, and names the script."""


class Initialisation:
    """Brings the node to `READY`, or says what failed."""

    def __init__(self, parts: InitParts) -> None:
        self._parts = parts
        self._log = parts.log
        self._asked = asyncio.Event()
        self._looked = asyncio.Event()
        self._backoff = Backoff(parts.rng, cap_seconds=BACKOFF_CAP_SECONDS)
        self._reporting = InitReporting(
            control_plane=parts.control_plane,
            credentials=parts.credentials,
            clock=parts.clock,
            rng=parts.rng,
            log=parts.log,
            taken=self._report_taken,
        )
        self._stored = True
        self._saving = asyncio.Lock()
        self._record = self._open()
        parts.readiness.follow(self._record)
        self._tell()

    def ask(self) -> None:
        """Have the control plane asked for a plan soon."""
        self._asked.set()

    async def looked(self, timeout_seconds: float) -> None:
        """Wait until a new node has asked what it is to run, whatever the answer, but no longer than this."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._looked.wait()

    async def run(self) -> None:
        """Initialise the node if that is due, and again when it is asked for, until cancelled."""
        async with asyncio.TaskGroup() as work:
            work.create_task(self._reporting.send_all(self._record), name="trunkline-init-report")
            work.create_task(self._keep_initialising(), name="trunkline-init")

    async def _keep_initialising(self) -> None:
        if self._record.state is not InitState.DUE:
            self._looked.set()
        if self._record.state is InitState.INITIALISING:
            await self._resume()
        while True:
            if self._record.state is InitState.DUE:
                await self._until_asked_well()
            else:
                await self._until_asked()
                self._asked.clear()
                await self._ask_once()
            await asyncio.sleep(SHORTEST_INTERVAL_SECONDS)

    async def _until_asked(self) -> None:
        """Wait until a plan is to be asked for.

        What the disk did not take of an end is stored meanwhile: an agent that finds itself `INITIALISING` when the
        ledger has forgotten the scripts would run them again.
        """
        while not self._asked.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if self._stored else STORE_AGAIN_SECONDS):
                    await self._asked.wait()
            if not self._stored:
                await self._save()

    async def _until_asked_well(self) -> None:
        """Ask for the plan of a new node until there is an answer, however long that takes."""
        while not await self._ask_once():  # noqa: ASYNC110 - a retry
            await asyncio.sleep(self._backoff.next_delay_seconds(self._parts.clock.monotonic()))
        self._backoff.reset()

    async def _ask_once(self) -> bool:
        """Ask, and run what is answered; return whether there was an answer."""
        document = {
            "instance": self._record.instance,
            "last_run": self._record.last_run,
            "last_request_time": self._record.last_request_time,
        }
        identity = self._parts.credentials.current.identity
        try:
            answer = await self._parts.control_plane.call(PLAN_PATH, document, identity=identity)
            plan = read_plan(answer)
        except ControlPlaneRefused as error:
            if error.status in HAS_NONE:
                await self._end(InitState.READY)
                return True
            return self._not_answered(str(error))
        except (ControlPlaneUnreachable, PlanRefused) as error:
            return self._not_answered(str(error))
        if plan.run > self._record.last_run:
            return await self._begin(plan, answer)
        if self._record.state is InitState.DUE:
            await self._end(InitState.READY)
        elif answer.get("report") is True:
            self._reporting.again(self._record)
        return True

    def _not_answered(self, reason: str) -> bool:
        self._looked.set()
        self._log.warning("init.not_asked", reason=reason)
        self._parts.readiness.progress(reason)
        return False

    async def _begin(self, plan: InitPlan, document: dict[str, Any]) -> bool:
        """Bring a plan to the disk and run it; return False where the disk does not take it."""
        record = self._record
        begun = replace(
            record,
            last_run=plan.run,
            last_request_time=plan.request_time,
            state=InitState.INITIALISING,
            reason=None,
            scripts=[ScriptOutcome(script.script_id, script.name) for script in plan.scripts],
        )
        begun.count_change()
        try:
            await in_thread(self._parts.files.save_plan, document)
        except KeyFileError as error:
            return self._not_answered(f"the plan cannot be stored: {error}")
        async with self._saving:
            if not await self._write(begun):
                return self._not_answered("that the run begins cannot be stored")
            record.become(begun)
        self._tell()
        self._log.info("init.begun", run=plan.run, scripts=len(plan.scripts))
        if plan.scripts:
            self._looked.set()
        await self._run(plan)
        return True

    async def _resume(self) -> None:
        """Go on with the run that an agent before this one has begun."""
        try:
            plan = await in_thread(self._parts.files.load_plan, self._record.last_run)
        except PlanRefused as error:
            await self._end(InitState.INIT_FAILED, str(error))
            return
        self._log.info("init.resumed", run=plan.run, scripts=len(plan.scripts))
        await self._run(plan)

    async def _run(self, plan: InitPlan) -> None:
        try:
            for number, (script, outcome) in enumerate(zip(plan.scripts, self._record.scripts, strict=True), 1):
                self._parts.readiness.progress(f"script {number} of {len(plan.scripts)}, {script.name!r}, is run")
                if outcome.state != CommandState.SUCCEEDED.value:
                    await self._run_script(plan, script, outcome)
        except _Failed as error:
            await self._end(InitState.INIT_FAILED, str(error))
        else:
            await self._end(InitState.READY)

    async def _run_script(self, plan: InitPlan, script: PlannedScript, outcome: ScriptOutcome) -> None:
        """Run one script, or wait for the one that an agent before this one has started.

        Raises:
            _Failed: it is not allowed, or ended in any way but with status 0.
        """
        command = await self._command(plan, script, outcome)
        while not command.state.terminal:
            await self._take_over(outcome, command)
            await asyncio.sleep(POLL_SECONDS)
        if command.state is not CommandState.SUCCEEDED:
            outcome.stdout_tail = await tail_of(self._parts.ledger, command, OutputStream.STDOUT)
            outcome.stderr_tail = await tail_of(self._parts.ledger, command, OutputStream.STDERR)
        await self._take_over(outcome, command)
        self._parts.metrics.init_scripts.labels(command.state.value.lower()).inc()
        self._log.info("init.script_ended", script=script.name, state=command.state.value, reason=outcome.reason)
        if command.state is not CommandState.SUCCEEDED:
            raise _Failed(_failure(outcome))

    async def _command(self, plan: InitPlan, script: PlannedScript, outcome: ScriptOutcome) -> Command:
        command_id = command_id_of(plan.run, script.script_id, self._record.node_id)
        try:
            return self._parts.ledger.get(command_id)
        except CommandRefused:
            return await self._submitted(command_id, plan, script, outcome)

    async def _submitted(
        self, command_id: str, plan: InitPlan, script: PlannedScript, outcome: ScriptOutcome
    ) -> Command:
        node = self._parts.credentials.current
        while True:
            policy = self._parts.policy.current
            refusal = None if policy.init_enabled else "the node's owner does not allow init scripts"
            try:
                if refusal is None:
                    environment = environment_of(plan, script, node, own_address())
                    submission = submission_of(script, environment, policy.init)
                    subject = str(control_plane_id(node.spiffe_id.trust_domain))
                    submitter = Submitter(subject, bound=True, initialises=True)
                    command, _ = await self._parts.ledger.submit(command_id, submission, submitter)
                    return command
            except CommandRefused as error:
                if error.reason in _TRY_AGAIN:
                    self._parts.readiness.progress(f"the script {script.name!r} waits: {error.message}")
                    await asyncio.sleep(SHORTEST_INTERVAL_SECONDS)
                    continue
                refusal = error.message
            outcome.state, outcome.reason = "REFUSED", refusal
            raise _Failed(f"the init script {script.name!r} was not run: {refusal}")

    async def _take_over(self, outcome: ScriptOutcome, command: Command) -> None:
        """Bring what is known of a script's command into the record, if it is news."""
        before = outcome.document()
        record = command.record
        outcome.state, outcome.reason = record.state.value, record.reason
        outcome.exit_code, outcome.signal = record.exit_code, record.signal
        outcome.start_time, outcome.end_time = record.start_time, record.end_time
        if outcome.document() != before:
            self._record.count_change()
            await self._save()
            self._tell()

    async def _end(self, state: InitState, reason: str | None = None) -> None:
        record = self._record
        async with self._saving:
            ended = replace(record, state=state, reason=reason)
            ended.count_change()
            if await self._write(ended):
                await in_thread(self._parts.files.remove_plan)
            record.become(ended)
        self._tell()
        self._looked.set()
        told = self._log.info if state is InitState.READY else self._log.error
        told("init.ended", state=state.value, run=record.last_run, reason=reason)

    async def _report_taken(self) -> None:
        """Remember that the end was heard of, so that the next start says nothing again."""
        if self._record.state.final:
            await self._save()

    def _open(self) -> InitRecord:
        """Return the record on the disk; a node that was one before there were records is ready."""
        node_id, files = self._parts.credentials.current.node_id, self._parts.files
        record = files.load()
        if record is None or record.node_id not in (node_id, ""):
            record = new_record(node_id, InitState.READY)
            self._stored = self._try_to_store(record)
        record.node_id = node_id
        return record

    async def _save(self) -> None:
        """Bring the record to the disk as it is; what it lacks after a crash, the plan and the ledger know."""
        async with self._saving:
            await self._write(deepcopy(self._record))

    async def _write(self, record: InitRecord) -> bool:
        """Bring it to the disk, one at a time; return whether the disk took it."""
        self._stored = await in_thread(self._try_to_store, record)
        return self._stored

    def _try_to_store(self, record: InitRecord) -> bool:
        """Write it to the disk; return whether the disk took it."""
        try:
            self._parts.files.save(record)
        except KeyFileError as error:
            self._log.error("init.not_stored", reason=str(error))
            return False
        return True

    def _tell(self) -> None:
        self._parts.metrics.ready.set(1 if self._parts.readiness.ready else 0)
        self._reporting.changed()


def _failure(outcome: ScriptOutcome) -> str:
    """Return one line that says how a script ended."""
    how = outcome.reason or outcome.state.lower()
    if outcome.state == CommandState.FAILED.value and outcome.exit_code is not None:
        how = f"it exited with status {outcome.exit_code}"
    return f"the init script {outcome.name!r} failed: {how}"
