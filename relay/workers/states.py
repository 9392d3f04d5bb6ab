"""How the workers are, as each has said it last: what the parent tells operators of all of them together."""

from dataclasses import dataclass
from typing import Any, Final

from relay.drain.unfinished import MAX_NAMED_CALLS

_COUNTS: Final = ("connections", "sender_links", "listener_links", "calls_open")


@dataclass(frozen=True, slots=True)
class State:
    """What a worker says of itself.

    Attributes:
        unmet: the conditions of readiness that do not hold, with the reasons.
        remarks: what else an operator should know, by name.
        left: once it drains, what is left, as `unfinished` has it.
    """

    unmet: dict[str, str]
    remarks: dict[str, str]
    left: dict[str, Any] | None


class WorkerStates:
    """The states of all workers that have told theirs."""

    def __init__(self) -> None:
        self._states: dict[int, State] = {}

    def said(self, worker: int, state: State) -> None:
        """Take a worker's word."""
        self._states[worker] = state

    def ended(self, worker: int) -> None:
        """Forget a worker that has ended."""
        self._states.pop(worker, None)

    def ready(self, worker: int) -> bool:
        """Whether a worker has said that nothing keeps it from serving."""
        state = self._states.get(worker)
        return state is not None and not state.unmet

    def unmet(self, worker: int) -> dict[str, str]:
        """Return what keeps a worker from serving, as far as it has said so."""
        state = self._states.get(worker)
        return state.unmet if state is not None else {}

    def remark(self, name: str) -> str | None:
        """Return what the workers remark under this name; None if none of them does."""
        found = {worker: state.remarks.get(name) for worker, state in sorted(self._states.items())}
        return "; ".join(f"worker {worker}: {text}" for worker, text in found.items() if text) or None

    def left(self) -> dict[str, Any] | None:
        """Return what is left at all workers; None as long as one of them has yet to say, since it may be anything."""
        told = [state.left for state in self._states.values()]
        left = [one for one in told if one is not None]
        if len(left) < len(told):
            return None
        calls = sorted((call for one in left for call in one["calls"]), key=lambda call: str(call["start_time"]))
        return {name: sum(one[name] for one in left) for name in _COUNTS} | {"calls": calls[:MAX_NAMED_CALLS]}
