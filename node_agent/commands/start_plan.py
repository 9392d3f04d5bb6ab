"""What the start of a command needs beyond its record: environment and input, which may be secret, and long arguments.

It is on the disk, in a file of mode 0600, only while the command waits for its turn, so that the next agent can start
it; workspace secrets are never in it.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from node_agent.commands.records import CommandRecord, CommandStore
from node_agent.commands.secret_references import SecretReferences
from node_agent.commands.secret_source import Wanted
from node_agent.commands.submission import Submission


@dataclass(frozen=True, slots=True)
class StartPlan:
    """Environment, standard input, and the versions of the secrets that the submitter meant.

    `argv` are the arguments where they are longer than what is in the record.
    """

    environment: Mapping[str, str] = field(repr=False)
    stdin: bytes | None = field(default=None, repr=False)
    secret_versions: Mapping[str, int] = field(default_factory=dict)
    argv: Sequence[str] | None = field(default=None, repr=False)

    def to_json(self) -> bytes:
        """Return the plan as it stands in its file."""
        document = {
            "environment": dict(self.environment),
            "stdin": None if self.stdin is None else base64.b64encode(self.stdin).decode("ascii"),
            "secret_versions": dict(self.secret_versions),
            "argv": self.argv,
        }
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def plan_of(submission: Submission, argv: Sequence[str] | None) -> StartPlan:
    """Return what the start of a submitted command needs; `argv` if its record has not all of them."""
    return StartPlan(dict(submission.environment), submission.stdin, dict(submission.secret_versions), argv)


def parse_start_plan(content: bytes) -> StartPlan:
    """Read a plan's file; fields that another release wrote are ignored.

    Raises:
        ValueError: it holds no plan.
    """
    try:
        document: dict[str, Any] = json.loads(content)
        stdin = document["stdin"]
        return StartPlan(
            environment=document["environment"],
            stdin=None if stdin is None else base64.b64decode(stdin),
            secret_versions=document["secret_versions"],
            argv=document.get("argv"),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(str(error)) from None


def kept_plan(store: CommandStore, command_id: str) -> StartPlan | None:
    """Read the plan of a command that waits (this blocks); None if it is not kept.

    Raises:
        ValueError: its file holds no plan.
    """
    content = store.load_plan(command_id)
    return None if content is None else parse_start_plan(content)


def wanted_of(record: CommandRecord, plan: StartPlan) -> Wanted | None:
    """Return what the command is to be given of the workspace's secrets."""
    if record.secrets is None:
        return None
    return Wanted(
        references=SecretReferences.model_validate(record.secrets),
        versions=plan.secret_versions,
        command_id=record.command_id,
        submitted_by=record.submitted_by,
        user=record.user,
    )
