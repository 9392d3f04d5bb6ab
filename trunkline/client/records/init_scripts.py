"""Init scripts, and how far a node's initialisation by them is."""

from __future__ import annotations

from pydantic import Field

from trunkline.client.records.record import Record


class InitScript(Record):
    """One script that new nodes run; `script`, its content in base64, is there where one script is asked for."""

    script_id: str
    name: str
    position: int = 0
    enabled: bool = False
    sha256: str = ""
    cluster_id: str | None = None
    secrets: dict[str, dict[str, str]] | None = None
    created_at: int = 0
    created_by: str = ""
    updated_at: int = 0
    updated_by: str = ""
    script: str | None = None


class InitOutcome(Record):
    """What became of one script on one node; the tails are there where it failed."""

    script_id: str
    name: str = ""
    sha256: str = ""
    state: str = ""
    command_id: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    start_time: int | None = None
    end_time: int | None = None
    stdout_tail: str | None = None
    stderr_tail: str | None = None


class NodeInit(Record):
    """A node's latest initialisation: ``PENDING``, ``INITIALISING``, ``READY`` or ``INIT_FAILED``."""

    run: int
    state: str
    reason: str | None = None
    requested_by: str | None = None
    request_time: int | None = None
    hand_time: int | None = None
    report_time: int | None = None
    scripts: list[InitOutcome] = Field(default_factory=list)

    @property
    def final(self) -> bool:
        """Whether the node has done with it."""
        return self.state in ("READY", "INIT_FAILED")
