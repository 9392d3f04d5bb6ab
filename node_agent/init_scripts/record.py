"""What outlives the agent of an initialisation: where it is, what became of each script, and the plan under way.

Two files. `init.json` says how far the node is; it is replaced atomically at every step. `init-plan.json` holds the
scripts of a run that has begun, until it has ended; it is on the disk before the record says that the run has begun,
and so before anything runs.
"""

import json
import secrets
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

from certs.errors import KeyFileError
from certs.keyfiles import read_secret, write_secret
from node_agent.init_scripts.plan import InitPlan, PlanRefused, parse_plan
from trunkline.runtime.logs import Logger

RECORD_FILE = "init.json"
PLAN_FILE = "init-plan.json"
INSTANCE_BYTES = 16


class InitState(Enum):
    """Where this node's initialisation is; the values but the first are those of the reports."""

    DUE = "DUE"
    INITIALISING = "INITIALISING"
    READY = "READY"
    INIT_FAILED = "INIT_FAILED"

    @property
    def final(self) -> bool:
        """Whether nothing is to be run at present."""
        return self in (InitState.READY, InitState.INIT_FAILED)


@dataclass(slots=True)
class ScriptOutcome:
    """What became of one script; the state is that of its command, `WAITING`, or `REFUSED` by the owner's policy."""

    script_id: str
    name: str
    state: str = "WAITING"
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    start_time: int | None = None
    end_time: int | None = None
    stdout_tail: str | None = None
    stderr_tail: str | None = None

    def document(self) -> dict[str, Any]:
        """Return it as it is stored and reported; what does not apply is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(slots=True)
class InitRecord:
    """Everything that is known of this node's initialisation.

    Attributes:
        instance: the name of this state directory, made up once.
        node_id: the node that it is about.
        last_run: the highest run whose plan was ever on this disk; each is run once.
        last_request_time: when that was asked for, in milliseconds by the control plane's clock, or 0.
        sequence: the number of changes, by which reports are ordered.
        reported: the sequence of the last report that the control plane has taken.
    """

    instance: str
    node_id: str
    state: InitState
    last_run: int = 0
    reason: str | None = None
    sequence: int = 0
    reported: int = 0
    scripts: list[ScriptOutcome] = field(default_factory=list)
    last_request_time: int = 0

    def count_change(self) -> None:
        """Have a report tell of what has changed; whoever handed no scripts knows that nothing is to be heard."""
        self.sequence += 1
        if not self.scripts:
            self.reported = self.sequence

    def become(self, other: "InitRecord") -> None:
        """Take over all that another says, for those who follow this one."""
        for member in fields(self):
            setattr(self, member.name, getattr(other, member.name))

    def to_json(self) -> bytes:
        """Return the record as it stands in its file."""
        document = asdict(self) | {"state": self.state.value, "scripts": [one.document() for one in self.scripts]}
        return json.dumps(document, separators=(",", ":")).encode()


def new_record(node_id: str, state: InitState) -> InitRecord:
    """Return the record of a node of which nothing is known yet."""
    return InitRecord(instance=secrets.token_hex(INSTANCE_BYTES), node_id=node_id, state=state)


class InitFiles:
    """The two files in the state directory. Its methods block on the disk."""

    def __init__(self, directory: Path, log: Logger) -> None:
        self._record = directory / RECORD_FILE
        self._plan = directory / PLAN_FILE
        self._log = log

    def load(self) -> InitRecord | None:
        """Return the record, or None where there is none; one that is damaged says that the initialisation failed.

        Raises:
            KeyFileError: others can read it, or the disk does not give it.
        """
        if not self._record.exists():
            return None
        content = read_secret(self._record)
        try:
            return _parse_record(content)
        except (ValueError, KeyError, TypeError, AttributeError):
            self._log.error("init.record_damaged", file=str(self._record), consequence="it counts as failed")
            record = new_record("", InitState.INIT_FAILED)
            record.reason = "the record of the node's initialisation is damaged: ask for another"
            return record

    def save(self, record: InitRecord) -> None:
        """Bring the record to the disk.

        Raises:
            KeyFileError: the disk does not take it.
        """
        write_secret(self._record, record.to_json())

    def note_new_node(self, node_id: str) -> None:
        """Note, before a node's identity is put in force, that it is to be initialised; once for each node.

        Raises:
            KeyFileError: the disk does not take it.
        """
        known = self.load()
        if known is None or known.node_id != node_id:
            self.save(new_record(node_id, InitState.DUE))

    def load_plan(self, run: int) -> InitPlan:
        """Return the plan of the run that has begun.

        Raises:
            PlanRefused: it is missing, damaged, or of another run.
        """
        try:
            plan = parse_plan(read_secret(self._plan))
        except KeyFileError as error:
            raise PlanRefused(f"the stored plan of the init scripts cannot be read: {error}") from None
        if plan.run != run:
            raise PlanRefused("the stored plan of the init scripts is that of another run")
        return plan

    def save_plan(self, document: dict[str, Any]) -> None:
        """Keep a plan as it was handed.

        Raises:
            KeyFileError: the disk does not take it.
        """
        write_secret(self._plan, json.dumps(document).encode())

    def remove_plan(self) -> None:
        """Forget the plan: its run has ended. That it stays does no harm."""
        try:
            self._plan.unlink(missing_ok=True)
        except OSError as error:
            self._log.warning("init.plan_stays", reason=error.strerror)


def _parse_record(content: bytes) -> InitRecord:
    """Read a record's file; members that another release wrote are ignored."""
    document = json.loads(content)
    known = {name: document[name] for name in ("instance", "node_id", "last_run", "reason", "sequence", "reported")}
    of_script = {member.name for member in fields(ScriptOutcome)}
    outcomes = [ScriptOutcome(**{name: one[name] for name in one.keys() & of_script}) for one in document["scripts"]]
    request_time = document.get("last_request_time", 0)
    return InitRecord(**known, state=InitState(document["state"]), scripts=outcomes, last_request_time=request_time)
