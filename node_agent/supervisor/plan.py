"""The plan of one command: everything that its supervisor has to know, as it passes through the inherited socket."""

import base64
import json
from typing import Any, NamedTuple

# A submit's body is 8 MiB at most; with secrets, and bytes as base64, a plan is well below this.
MAX_PLAN_BYTES = 24 * 1024 * 1024
LENGTH_BYTES = 8


class Limits(NamedTuple):
    """Bounds of a command, each None where there is none."""

    memory_bytes: int | None = None
    processes: int | None = None
    cpu_percent: int | None = None
    open_files: int | None = None


class User(NamedTuple):
    """Whom to become before the program starts."""

    uid: int
    gid: int
    groups: tuple[int, ...]


class Plan(NamedTuple):
    """What to run, as whom, within which bounds; times in seconds, sizes in bytes.

    `user` is None where the command runs as the agent's own user. `patterns` are the secrets to mask in the output.
    `secrets_directory` is removed when the command has ended. With `stdin_streamed`, the command reads the file `stdin`
    of its directory as that grows; else it reads `stdin`.
    """

    run_id: str
    argv: tuple[str, ...]
    environment: dict[str, bytes]
    working_directory: str
    user: User | None
    timeout_seconds: float
    grace_seconds: float
    max_output_bytes: int
    limits: Limits = Limits()
    stdin: bytes | None = None
    stdin_streamed: bool = False
    patterns: tuple[bytes, ...] = ()
    secrets_directory: str | None = None

    def to_bytes(self) -> bytes:
        """Return the plan as it is sent: its length, then JSON."""
        document = self._asdict()
        document["environment"] = {name: _text(value) for name, value in self.environment.items()}
        document["stdin"] = None if self.stdin is None else _text(self.stdin)
        document["patterns"] = [_text(pattern) for pattern in self.patterns]
        body = json.dumps(document, separators=(",", ":")).encode()
        return len(body).to_bytes(LENGTH_BYTES, "big") + body


def parse_plan(body: bytes) -> Plan:
    """Return the plan that was sent, without its length.

    Raises:
        ValueError, KeyError, TypeError: it is none.
    """
    document: dict[str, Any] = json.loads(body)
    user, stdin = document["user"], document["stdin"]
    return Plan(
        **document
        | {
            "argv": tuple(document["argv"]),
            "environment": {name: _bytes(value) for name, value in document["environment"].items()},
            "user": None if user is None else User(user[0], user[1], tuple(user[2])),
            "limits": Limits(*document["limits"]),
            "stdin": None if stdin is None else _bytes(stdin),
            "patterns": tuple(_bytes(pattern) for pattern in document["patterns"]),
        }
    )


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
