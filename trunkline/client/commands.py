"""Commands by way of the control plane, which records them: submit, give input, watch, read their output, cancel."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trunkline.client.api_transport import ApiTransport, path_of
from trunkline.client.command_events import follow_events
from trunkline.client.command_input import InputPart, InputSender
from trunkline.client.command_output import (
    OutputPart,
    OutputRange,
    OutputReader,
    OutputStream,
    beyond_the_end,
)
from trunkline.client.errors import ApiError, OutputNotKept, TrunklineError
from trunkline.client.pages import read_pages, read_record
from trunkline.client.records.commands import Command, CommandEvent, InputStanding, OutputTime
from trunkline.client.resumption import RESUME_SECONDS, Resumption
from trunkline.client.rollouts import Rollout

POLL_SECONDS = 0.2
SLOWEST_POLL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Target:
    """Which nodes a command runs on: exactly one of these is set."""

    node: str | None = None
    cluster: str | None = None
    selector: Mapping[str, str] | None = None
    everywhere: bool = False

    def document(self) -> dict[str, Any]:
        """The target as the API takes it.

        Raises:
            ValueError: none is set, or more than one.
        """
        choices: dict[str, Any] = {
            "node": self.node,
            "cluster": self.cluster,
            "selector": dict(self.selector) if self.selector else None,
            "all": self.everywhere or None,
        }
        chosen = {name: value for name, value in choices.items() if value is not None}
        if len(chosen) != 1:
            raise ValueError("a command has one target: a node, a cluster, a selector, or all nodes")
        return chosen


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """What to run: `argv`, or a command that the node's owner has `named`, with its parameters.

    `command_id` is the idempotency key, and is made up when it is None.

    `limits` bound what it uses, within what the node's owner allows: `memory_bytes`, `processes`, `cpu_percent` (100 is
    one processor), `open_files`, and `output_bytes` of each stream. `grace_seconds` lie between SIGTERM and SIGKILL.

    With `stdin_stream` its standard input follows: see `CommandApi.send_input`. It is not given in `stdin` then.

    `secret_environment` and `secret_files` give workspace secrets (`scope/key`) by name of a variable or file.
    """

    argv: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    working_directory: str | None = None
    user: str | None = None
    timeout_seconds: float | None = None
    grace_seconds: float | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    stdin: bytes | None = None
    stdin_stream: bool = False
    command_id: str | None = None
    secret_environment: Mapping[str, str] = field(default_factory=dict)
    secret_files: Mapping[str, str] = field(default_factory=dict)
    named: str | None = None
    parameters: Mapping[str, str | int | bool] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The request as the API takes it; what is not set is left out.

        Raises:
            ValueError: neither `argv` nor `named` is given, or both.
        """
        if bool(self.argv) == (self.named is not None):
            raise ValueError("a command is either an argument list or a named one")
        document: dict[str, Any] = {
            "command_id": self.command_id or new_command_id(),
            "argv": list(self.argv) or None,
            "named": self.named,
            "parameters": dict(self.parameters) or None,
            "environment": dict(self.environment) or None,
            "working_directory": self.working_directory,
            "user": self.user,
            "timeout_seconds": self.timeout_seconds,
            "grace_seconds": self.grace_seconds,
            "limits": dict(self.limits) or None,
            "stdin": base64.b64encode(self.stdin).decode("ascii") if self.stdin is not None else None,
            "stdin_stream": self.stdin_stream or None,
            "secrets": self._secrets() or None,
        }
        return {name: value for name, value in document.items() if value is not None}

    def _secrets(self) -> dict[str, dict[str, str]]:
        ways = {"environment": dict(self.secret_environment), "files": dict(self.secret_files)}
        return {way: references for way, references in ways.items() if references}


def new_command_id() -> str:
    """A command id that no other has."""
    return f"cmd-{secrets.token_hex(12)}"


class CommandApi:
    """The commands of one workspace."""

    def __init__(self, transport: ApiTransport, workspace: str) -> None:
        self._transport = transport
        self._workspace = workspace

    async def submit(self, target: Target, request: CommandRequest, rollout: Rollout | None = None) -> list[Command]:
        """Submit a command to every node of the target; sent twice it still runs once, thanks to its id.

        With a rollout its commands go in waves, or a few at once; see `WorkspaceApi.submissions`.
        """
        document = {"target": target.document(), **request.document()}
        if rollout is not None:
            document["rollout"] = rollout.document()
        answer = await self._transport.call("POST", self._path(), document=document)
        return [read_record(Command, entry) for entry in answer.get("commands", [])]

    async def list(self, *, node: str | None = None, state: str | None = None) -> AsyncIterator[Command]:
        """The commands that match every filter given, newest first."""
        query = {"node": node, "state": state}
        async for command in read_pages(self._transport, self._path(), "commands", Command, query):
            yield command

    async def get(self, command_id: str) -> Command:
        """One command."""
        return read_record(Command, await self._transport.call("GET", self._path(command_id)))

    async def cancel(self, command_id: str) -> Command:
        """Ask for a command's end; it is CANCELLED once its process has gone."""
        answer = await self._transport.call("POST", self._path(command_id, "cancel"), document={})
        return read_record(Command, answer)

    async def wait(self, command_id: str, *, timeout_seconds: float | None = None) -> Command:
        """The command once it has ended.

        Raises:
            TimeoutError: it has not ended within `timeout_seconds`.
            TrunklineError: as `get`.
        """
        async with asyncio.timeout(timeout_seconds):
            async for command in self.watch(command_id):
                last = command
        return last

    async def watch(self, command_id: str) -> AsyncIterator[Command]:
        """The command as it is found again and again, at last as it ended.

        While its delivery waits, `deliver_before` says until when it is tried and `reason` why it waits. A control
        plane that is away is asked again, for two minutes.

        Raises:
            TrunklineError: as `get`.
        """
        delay_seconds = POLL_SECONDS
        resumption = Resumption()
        while True:
            try:
                command = await self.get(command_id)
            except TrunklineError as error:
                await resumption.wait_or_raise(error)
                continue
            resumption.progress()
            yield command
            if command.state.final:
                return
            await asyncio.sleep(delay_seconds)
            delay_seconds = min(delay_seconds * 1.5, SLOWEST_POLL_SECONDS)

    async def events(self, command_id: str) -> AsyncIterator[CommandEvent]:
        """What has happened to a command so far, in order."""
        async for event in read_pages(self._transport, self._path(command_id, "events"), "events", CommandEvent):
            yield event

    async def follow_events(self, command_id: str, *, after: int = 0) -> AsyncIterator[CommandEvent]:
        """What has happened to a command, and what happens, as it does, until it has ended; each event once.

        Args:
            command_id: the command.
            after: only events behind the one with this id.

        Raises:
            ApiError: there is no such command.
            TrunklineError: nobody answered for two minutes.
        """
        async for event in follow_events(self._transport, self._path(command_id, "events"), after):
            yield event

    async def send_input(
        self, command_id: str, pieces: AsyncIterable[bytes], *, patience_seconds: float | None = RESUME_SECONDS
    ) -> InputStanding:
        """Bring a command that was submitted with `stdin_stream` its standard input, every byte once, and its end.

        Pieces are taken as fast as the command reads them, but for `AHEAD_BYTES` on the way. Whatever breaks on the way
        (the control plane, a relay, the node's agent) is resumed at the byte reached. It returns once the node has all
        of it, or the command reads nothing any more (`closed`).

        Args:
            command_id: the command.
            pieces: the input; its end is the end of the input. What it raises is raised, and the input then has no end.
            patience_seconds: for how long nobody has to answer; None is for ever, until this call is cancelled.

        Raises:
            ApiError: there is no such command, or it takes no input.
            TrunklineError: nobody answered for too long.
        """

        async def put(part: InputPart) -> InputStanding:
            query = {"offset": part.offset, "end": "true" if part.last else "false"}
            path = self._path(command_id, "stdin")
            return read_record(InputStanding, await self._transport.upload(path, part.content, query=query))

        return await InputSender(put, patience_seconds=patience_seconds).send(pieces)

    async def output(
        self,
        command_id: str,
        stream: OutputStream = "stdout",
        *,
        offset: int = 0,
        tail_bytes: int | None = None,
        length_bytes: int | None = None,
        follow: bool = False,
        kept: bool = False,
        on_cut: Callable[[OutputNotKept], None] | None = None,
    ) -> AsyncIterator[bytes]:
        """A command's output, every byte once: from `offset` on, or its last `tail_bytes`.

        At most `length_bytes` of it; with `follow`, what is still to come too, until the command has ended. Whatever
        breaks on the way (the control plane, a relay, the node's agent) is resumed at the byte reached. Of a node that
        is gone there is what the control plane has kept; `kept` asks for that also of one that is only away. `on_cut`
        is told of bytes that were not kept, and those behind them follow. As with any generator, a wait for a piece
        that is given up, by a timeout say, ends this reading, and the next wait finds an end: go on with another, from
        the `offset` reached.

        Raises:
            ApiError: there is no such command or output, or `offset` lies beyond the end (416).
            OutputNotKept: bytes are missing at this place, and there is no `on_cut`.
            TrunklineError: nothing came, and nobody answered, for two minutes.
        """
        wanted = OutputRange(offset, tail_bytes, length_bytes, follow=follow, kept=kept)
        reader = OutputReader(self._transport, self._path(command_id, "output"), stream, wanted, on_cut=on_cut)
        begin = None
        try:
            async for piece in reader.pieces():
                begin = reader.offset - len(piece) if begin is None else begin
                yield piece
        except ApiError as error:
            # A node that lost its latest bytes, in a power cut say, has less than was read: then this is the end.
            lost_some = beyond_the_end(error) and begin is not None
            if not (lost_some and follow and (await self.get(command_id)).state.final):
                raise

    async def output_part(
        self,
        command_id: str,
        stream: OutputStream = "stdout",
        *,
        offset: int = 0,
        tail_bytes: int | None = None,
        length_bytes: int,
    ) -> OutputPart:
        """A head (`offset` 0), a tail or a middle of a command's output as it is now, with the size of the whole.

        Raises:
            TrunklineError: as `output`.
        """
        wanted = OutputRange(offset, tail_bytes, length_bytes)
        reader = OutputReader(self._transport, self._path(command_id, "output"), stream, wanted)
        content = b"".join([piece async for piece in reader.pieces()])
        begin = reader.offset - len(content)
        return OutputPart(content, begin, max(reader.size_bytes or 0, reader.offset))

    async def output_times(
        self, command_id: str, stream: OutputStream = "stdout", *, offset: int = 0, kept: bool = False
    ) -> AsyncIterator[OutputTime]:
        """When the byte at `offset` and those that follow were written, as far as there are any by now.

        The first mark is the one that is true of that byte. Between two marks lies a tenth of a second at least, and
        more in outputs of many minutes, or of nodes that are gone.

        Raises:
            ApiError: there is no such command or output.
        """
        following: int | None = offset
        while following is not None:
            query = {"stream": stream, "offset": following, "kept": "true" if kept else None}
            page = await self._transport.call("GET", self._path(command_id, "output", "times"), query=query)
            for entry in page.get("times", []):
                yield read_record(OutputTime, entry)
            at, following = following, page.get("next_offset")
            if not isinstance(following, int) or following <= at:
                return

    def _path(self, *segments: str) -> str:
        return path_of("w", self._workspace, "api", "2.0", "commands", *segments)
