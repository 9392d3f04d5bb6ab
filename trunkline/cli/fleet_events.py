"""A submission as JSON lines: one object for each thing that happens, for programs.

Each has `event`. What is output is in `text` where it is UTF-8, else in `base64`; its pieces of one stream follow each
other without a gap from `offset` on.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from trunkline.cli.delivery_notes import tell
from trunkline.cli.fleet_changes import FleetChanges
from trunkline.cli.patient_output import Destination, passed
from trunkline.client.errors import TrunklineError
from trunkline.client.records.commands import Command
from trunkline.client.submissions import Standing

_MOST_HELD_BYTES = 3


class JsonEvents:
    """Writes the events of one submission."""

    tell = staticmethod(tell)

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._changes = FleetChanges()
        self._begun = False

    def show(self, standing: Standing) -> None:
        """Write what is new."""
        submission = standing.submission
        if not self._begun:
            self._begun = True
            self._write("submission", submission.model_dump(mode="json", exclude_none=True, exclude={"revision"}))
        for wave in self._changes.waves(standing):
            self._write("wave", {"submission_id": submission.submission_id, "wave": wave})
        for command in self._changes.commands(standing):
            self._write("command", command.model_dump(mode="json", exclude_none=True, exclude={"argv"}))

    async def passed(self) -> None:
        """Wait until the reader has taken what was written; raises OSError if it takes no more."""
        await passed(self._destination)

    def outputs(self, command: Command, stream: str, offset: int) -> JsonOutput:
        """Where the events of one output go."""
        return JsonOutput(self, command, stream, offset)

    def output_failed(self, command: Command, error: TrunklineError) -> None:
        """Write that an output is not whole."""
        self._write("output_failed", {"command_id": command.command_id, "node": command.node, "reason": str(error)})

    def finish(self, standing: Standing, status: int) -> None:
        """Write how it ended."""
        submission = standing.submission
        document = submission.model_dump(mode="json", include={"submission_id", "state", "counts", "stop_reason"})
        self._write("end", {key: value for key, value in document.items() if value is not None} | {"status": status})

    def write_output(self, command: Command, stream: str, offset: int, piece: bytes) -> None:
        """Write a piece of an output."""
        content: dict[str, Any] = {
            "command_id": command.command_id,
            "node": command.node,
            "stream": stream,
            "offset": offset,
        }
        try:
            content["text"] = piece.decode("utf-8")
        except UnicodeDecodeError:
            content["base64"] = base64.b64encode(piece).decode("ascii")
        self._write("output", content)

    def _write(self, event: str, content: dict[str, Any]) -> None:
        self._destination.write(json.dumps({"event": event, **content}).encode() + b"\n")
        self._destination.flush()


class JsonOutput:
    """One stream of one command; holds back the beginning of a character whose rest is still to come."""

    def __init__(self, events: JsonEvents, command: Command, stream: str, offset: int) -> None:
        self._events = events
        self._command = command
        self._stream = stream
        self._offset = offset
        self._held = b""

    def write(self, piece: bytes) -> None:
        """Write what is complete."""
        content = self._held + piece
        whole = len(content) - _incomplete_bytes(content)
        self._held = content[whole:]
        self._pass(content[:whole])

    def close(self) -> None:
        """Write what was held back."""
        held, self._held = self._held, b""
        self._pass(held)

    async def passed(self) -> None:
        """See `Output`."""
        await self._events.passed()

    def _pass(self, content: bytes) -> None:
        if content:
            self._events.write_output(self._command, self._stream, self._offset, content)
            self._offset += len(content)


def _incomplete_bytes(content: bytes) -> int:
    """How many bytes at the end begin a UTF-8 character that they do not complete."""
    for length in range(1, min(_MOST_HELD_BYTES, len(content)) + 1):
        lead = content[-length]
        if lead >= 0xC0:
            wanted = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return length if length < wanted else 0
        if lead < 0x80:
            return 0
    return 0
