"""A script as a command: which program runs it, and how it gets there without being anybody's to read or to change.

The content goes to the command's standard input. There, as the command's own user, it becomes a file without a name,
from which the interpreter reads it: so it is in no argument list, needs no place that two users can reach, may read its
own standard input (which is empty), and leaves nothing behind.
"""

import re

from node_agent.commands.submission import Submission
from node_agent.init_scripts.plan import PlannedScript
from node_agent.policy import InitRules

INTERPRETER = "/bin/bash"
OWN_COMMAND_ID = re.compile(r"init-[0-9]+-is-[a-z2-7]{20}\..*")
"""The form of the ids of init scripts' commands, which nobody else may use."""
LONGEST_FIRST_LINE_BYTES = 255
# Nothing of the script or of its names is in this text.
LOADER = (
    'file=$(mktemp "${TMPDIR:-/tmp}/trunkline-init.XXXXXXXXXX") && cat >"$file" && exec 3<"$file" && rm -f "$file" '
    '&& exec "$@" /dev/fd/3 </dev/null'
)


def command_id_of(run: int, script_id: str, node_id: str) -> str:
    """Return the id of the command that a script is on this node; each is run once."""
    return f"init-{run}-{script_id}.{node_id}"


def interpreter_of(script: bytes) -> list[str]:
    """Return what runs the script: what its first line names, as the kernel reads it (execve(2)), or bash."""
    first, _, _ = script[: LONGEST_FIRST_LINE_BYTES + 1].partition(b"\n")
    if not first.startswith(b"#!") or len(first) > LONGEST_FIRST_LINE_BYTES:
        return [INTERPRETER]
    words = first[2:].decode("utf-8", "replace").strip().split(maxsplit=1)
    return words if words and words[0].startswith("/") else [INTERPRETER]


def submission_of(script: PlannedScript, environment: dict[str, str], rules: InitRules) -> Submission:
    """Return the submission of a script under the owner's rules."""
    return Submission(
        argv=["/bin/sh", "-c", LOADER, "trunkline-init", *interpreter_of(script.script)],
        environment=environment,
        user=rules.run_as,
        timeout_seconds=rules.timeout_seconds,
        stdin=script.script,
        secrets=script.secrets,
    )
