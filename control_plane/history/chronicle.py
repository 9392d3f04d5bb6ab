"""The chronicle: writes down what happens to commands, in the transactions in which it happens.

Events are for whoever watches one command; the audit is for whoever asks later who ran what, and what the node decided;
metrics count. What is to follow a transaction (a wanted output, a ring of the bell) follows it by `done`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.history.command_audit import Decision, happening_of
from control_plane.history.event_log import EventLog
from control_plane.history.events import Event, EventKind, Standing, events_between
from control_plane.metrics import ControlPlaneMetrics
from control_plane.settings import CommandSettings
from control_plane.storage import commands, kept_outputs
from control_plane.storage.audit import Actor
from control_plane.storage.audit import append as append_audit
from control_plane.storage.commands import CommandKey
from control_plane.storage.records.commands import Command
from trunkline.runtime.clock import Clock

NODE_REMEMBERS_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Noted:
    """What was written down, for what is to be done once it is committed."""

    command: Command
    events: Sequence[Event]
    output_wanted: bool = False
    taken_time: int | None = None

    @property
    def key(self) -> CommandKey:
        """What names the command."""
        return CommandKey(self.command.workspace_id, self.command.command_id)


class Chronicle:
    """Writes down what happens to commands."""

    def __init__(
        self,
        *,
        settings: CommandSettings,
        events: EventLog,
        metrics: ControlPlaneMetrics,
        clock: Clock,
        fetch_output: Callable[[CommandKey, str], None],
    ) -> None:
        self._settings = settings
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._fetch_output = fetch_output

    def submitted(self, session: AsyncSession, recorded: Sequence[Command]) -> None:
        """Write down that commands were recorded."""
        for command in recorded:
            self._events.append(session, command, Event(EventKind.RECORDED, {"deliver_before": command.deliver_before}))

    def cancel_asked(self, session: AsyncSession, command: Command, actor: Actor) -> Noted:
        """Write down that somebody asked for the end of a command."""
        event = Event(EventKind.CANCEL_ASKED, {"by": actor.name})
        self._events.append(session, command, event)
        return Noted(command, [event])

    async def changed(
        self, session: AsyncSession, before: Standing, command: Command, decision: Decision | None = None
    ) -> Noted:
        """Write down what has happened to a command since it stood as `before`."""
        events = events_between(before, command)
        for event in events:
            self._events.append(session, command, event)
        await self._audit(session, command, events, decision)
        ended = any(event.kind is EventKind.ENDED for event in events)
        wanted = ended and self._wants_output(command)
        if wanted:
            kept_outputs.want(session, command, self._now_ms() + NODE_REMEMBERS_SECONDS * 1000)
        return Noted(command, events, wanted, decision.taken_time if decision is not None else None)

    def done(self, noted: Noted) -> None:
        """Do what follows, now that what was noted is committed."""
        self._measure(noted)
        if noted.output_wanted:
            self._fetch_output(noted.key, noted.command.node_id)
        if noted.events:
            self._events.ring(noted.key)

    def _wants_output(self, command: Command) -> bool:
        there = command.stdout_bytes + command.stderr_bytes
        return self._settings.keep_output_bytes > 0 and command.delivered and there > 0

    async def _audit(
        self, session: AsyncSession, command: Command, events: Sequence[Event], decision: Decision | None
    ) -> None:
        submission = await commands.find_submission(session, command.workspace_id, command.submission_id)
        for event in events:
            happening = happening_of(event, command, submission, decision)
            if happening is not None:
                append_audit(session, self._clock.now(), Actor(f"node/{command.node_id}"), happening)

    def _measure(self, noted: Noted) -> None:
        command, taken_time = noted.command, noted.taken_time
        kinds = {event.kind for event in noted.events}
        if EventKind.DELIVERED in kinds:
            self._metrics.command_delivery_seconds.observe(_seconds(command.submit_time, self._now_ms()))
        if EventKind.STARTED in kinds and taken_time is not None:
            self._metrics.command_queue_seconds.observe(_seconds(taken_time, command.start_time))
        if EventKind.ENDED in kinds:
            self._metrics.commands.labels(command.state).inc()
            if command.start_time is not None:
                seconds = _seconds(command.start_time, command.end_time)
                self._metrics.command_seconds.labels(command.state).observe(seconds)

    def _now_ms(self) -> int:
        return int(self._clock.now() * 1000)


def _seconds(begin_ms: int, end_ms: int | None) -> float:
    """Return the time between two moments, 0 if the clocks say that it went backwards."""
    return max(0, (end_ms or begin_ms) - begin_ms) / 1000
