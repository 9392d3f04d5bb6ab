"""Why sessions end."""

from enum import Enum


class EndCause(Enum):
    """Why a session ended; the value is its word in metrics and audit."""

    EXITED = "exited"
    HUNG_UP = "hung_up"
    ABANDONED = "abandoned"
    IDLE = "idle"
    TOO_LONG = "too_long"
    REVOKED = "revoked"
    AGENT_STOPPED = "agent_stopped"

    @property
    def reason(self) -> str:
        """The cause in words for the caller."""
        return _REASONS[self]


_REASONS = {
    EndCause.EXITED: "it has exited",
    EndCause.HUNG_UP: "the caller left",
    EndCause.ABANDONED: "the caller was away for too long",
    EndCause.IDLE: "nothing was typed or shown for as long as the node's owner allows",
    EndCause.TOO_LONG: "it was open for as long as the node's owner allows",
    EndCause.REVOKED: "the caller's token, or what it stands on, was revoked or locked",
    EndCause.AGENT_STOPPED: "the node's agent is stopping",
}
