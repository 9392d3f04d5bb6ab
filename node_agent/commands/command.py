"""A command in the agent's memory: its record, its spools while it runs, and the wish to stop it."""

import asyncio
from enum import Enum
from typing import Any

from node_agent.commands.records import CommandRecord, CommandStore, OutputStream, beginning_of
from node_agent.commands.spool import Spool
from node_agent.commands.states import CommandEvent, CommandState, next_state
from node_agent.commands.stdin_content import StdinContent
from trunkline.runtime.threads import in_thread


class StopCause(Enum):
    """Why a command is ended before its own end, or no longer this agent's business."""

    CANCEL = "cancel"
    AGENT = "agent"
    LEFT = "left to the next agent"


class Command:
    """One command. Its state changes only through `happened`, and so only along the table of `states`.

    Attributes:
        record: all that is known of it.
        unsaved: whether the disk lacks something of that.
        tokens_on_disk: the `token_ids` that the disk certainly has.
        stop_asked: why it is to be ended, once somebody has said so; None until it is being started.
    """

    def __init__(self, record: CommandRecord, *, recorded: bool = False) -> None:
        self.record = record
        self.unsaved = not recorded
        self.tokens_on_disk = record.token_ids if recorded else {}
        self.stop_asked: asyncio.Future[StopCause] | None = None
        self._spools: dict[OutputStream, Spool] = {}
        self._changed: set[asyncio.Future[None]] = set()
        self._saving = asyncio.Lock()
        self._stdin: StdinContent | None = None

    @property
    def command_id(self) -> str:
        """The submitter's name for it."""
        return self.record.command_id

    @property
    def state(self) -> CommandState:
        """Where it is in its life."""
        return self.record.state

    def happened(self, event: CommandEvent, now: float, *, reason: str | None = None) -> None:
        """Let `event` happen at wall time `now` (seconds).

        Raises:
            TransitionRefused: it cannot happen to a command in this state; nothing has changed.
        """
        record = self.record
        record.state = next_state(record.state, event)
        record.reason = reason if reason is not None else record.reason
        milliseconds = int(now * 1000)
        if event is CommandEvent.STARTED:
            record.start_time = milliseconds
        if record.state.terminal:
            record.end_time = milliseconds
            for spool in self._spools.values():
                spool.finish()
            self._spools = {}
            if self._stdin is not None:
                self._stdin.end()
        record.revision += 1
        self.unsaved = True
        for changed in self._changed:
            if not changed.done():
                changed.set_result(None)

    async def changed_since(self, revision: int, *, timeout_seconds: float) -> None:
        """Wait until the command has another revision or has ended, but no longer than the time given."""
        if self.record.revision != revision or self.state.terminal:
            return
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changed.add(changed)
        try:
            await asyncio.wait({changed}, timeout=timeout_seconds)
        finally:
            self._changed.discard(changed)

    def ask_stop(self, cause: StopCause) -> None:
        """Have the process ended; the first cause counts."""
        if self.stop_asked is not None and not self.stop_asked.done():
            self.stop_asked.set_result(cause)

    async def save(self, store: CommandStore) -> None:
        """Bring the record to the disk as it is now, in order with other saves of it.

        Raises:
            OSError: the disk did not take it; `unsaved` stays true.
        """
        async with self._saving:
            content, token_ids = self.record.to_json(), dict(self.record.token_ids)
            self.unsaved = False
            try:
                await in_thread(store.save, self.command_id, content)
            except (OSError, asyncio.CancelledError):
                self.unsaved = True
                raise
            self.tokens_on_disk = token_ids

    def grown(self, sizes: list[int]) -> None:
        """Hear how much was written by now: bytes of stdout, bytes dropped of it, and the same of stderr."""
        record = self.record
        record.stdout_bytes, record.stdout_dropped_bytes, record.stderr_bytes, record.stderr_dropped_bytes = sizes
        for stream, spool in self._spools.items():
            spool.grown(self._size(stream))

    def stdin(self, store: CommandStore) -> StdinContent:
        """Return the standard input that follows the command."""
        if self._stdin is None:
            self._stdin = StdinContent(store.stdin_path(self.command_id))
        return self._stdin

    def spool(self, stream: OutputStream, store: CommandStore) -> Spool:
        """Return what the command wrote, or writes, on one of its streams."""
        if stream in self._spools:
            return self._spools[stream]
        size = 0 if self.record.output_removed else self._size(stream)
        spool = Spool(store.spool_path(self.command_id, stream), size_bytes=size, finished=self.state.terminal)
        if not self.state.terminal:
            self._spools[stream] = spool
        return spool

    @property
    def spooled(self) -> bool:
        """Whether all output that will ever be there is there."""
        return self.state.terminal

    @property
    def shown_characters(self) -> int:
        """How long what was submitted is in `document`, about."""
        return self.record.shown_characters

    def document(self) -> dict[str, Any]:
        """Return the command as the API shows it; what does not apply is left out, and a long `argv` is cut."""
        record = self.record
        argv = beginning_of(record.argv)
        shown: dict[str, Any] = {
            "command_id": record.command_id,
            "state": record.state.value,
            "revision": record.revision,
            "argv": argv,
            "submit_time": record.submit_time,
            "submitted_by": record.submitted_by,
            "stdout_bytes": record.stdout_bytes,
            "stderr_bytes": record.stderr_bytes,
            "stdout_dropped_bytes": record.stdout_dropped_bytes,
            "stderr_dropped_bytes": record.stderr_dropped_bytes,
            "output_removed": record.output_removed,
        }
        if record.limits is not None:
            limits = record.limits | {"output_bytes": record.max_output_bytes}
            shown["limits"] = {name: value for name, value in limits.items() if value is not None}
        if record.argv_truncated or argv != record.argv:
            shown["argv_truncated"] = True
        for name in _SHOWN_IF_SET:
            value = getattr(record, name)
            if value is not None:
                shown[name] = value
        return shown

    def _size(self, stream: OutputStream) -> int:
        record = self.record
        return record.stdout_bytes if stream is OutputStream.STDOUT else record.stderr_bytes


_SHOWN_IF_SET = (
    "named",
    "parameters",
    "user",
    "working_directory",
    "timeout_seconds",
    "grace_seconds",
    "secrets",
    "start_time",
    "end_time",
    "exit_code",
    "signal",
    "usage",
    "oom_killed",
    "stdin_bytes",
    "output_refused",
    "reason",
)
