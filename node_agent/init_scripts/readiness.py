"""Readiness: whether the node takes commands yet, for whoever has to ask before taking one."""

from node_agent.commands.errors import CommandRefusal, CommandRefused, RefusalReason
from node_agent.init_scripts.record import InitRecord, InitState


class Readiness:
    """Says how the initialisation stands; before anything is known, the node is not ready."""

    def __init__(self) -> None:
        self._record: InitRecord | None = None
        self._progress = "it has not asked for its init scripts yet"

    @property
    def ready(self) -> bool:
        """Whether commands are taken."""
        return self._record is not None and self._record.state is InitState.READY

    def follow(self, record: InitRecord) -> None:
        """Take the record that counts from now on; it is looked at whenever somebody asks."""
        self._record = record

    def progress(self, text: str) -> None:
        """Say what is being waited for, while the node is being initialised."""
        self._progress = text

    def refusal(self) -> CommandRefusal | None:
        """Return why no command is taken, or None."""
        if self.ready:
            return None
        if self._record is not None and self._record.state is InitState.INIT_FAILED:
            reason = self._record.reason or "its initialisation failed"
            return CommandRefusal(RefusalReason.INIT_FAILED, f"the node takes no commands: {reason}")
        return CommandRefusal(RefusalReason.INITIALISING, f"the node is being initialised: {self._progress}")

    def require(self) -> None:
        """Let pass only if the node is ready.

        Raises:
            CommandRefused: it is not; the message says what it waits for, or what failed.
        """
        refusal = self.refusal()
        if refusal is not None:
            raise CommandRefused.of(refusal)

    def document(self) -> dict[str, object]:
        """Return how it stands, as the agent's health shows it."""
        if self._record is None:
            return {"state": InitState.INITIALISING.value, "run": 0, "reason": self._progress}
        state = self._record.state
        shown = InitState.INITIALISING if state is InitState.DUE else state
        reason = self._record.reason if state.final else self._progress
        document: dict[str, object] = {"state": shown.value, "run": self._record.last_run}
        return document if reason is None else document | {"reason": reason}
