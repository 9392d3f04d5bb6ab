"""Why the agent does not do what is asked of it with a command: expected refusals, with their place in the API."""

from enum import Enum
from http import HTTPStatus


class RefusalReason(Enum):
    """The refusals: HTTP status and `error_code` of each."""

    OTHER_BODY = (HTTPStatus.CONFLICT, "RESOURCE_CONFLICT")
    REPLAYED_TOKEN = (HTTPStatus.FORBIDDEN, "PERMISSION_DENIED")
    POLICY = (HTTPStatus.FORBIDDEN, "POLICY_DENIED")
    TOO_MANY = (HTTPStatus.TOO_MANY_REQUESTS, "REQUEST_LIMIT_EXCEEDED")
    NO_STORAGE = (HTTPStatus.INSUFFICIENT_STORAGE, "RESOURCE_EXHAUSTED")
    UNKNOWN = (HTTPStatus.NOT_FOUND, "RESOURCE_DOES_NOT_EXIST")
    STOPPING = (HTTPStatus.SERVICE_UNAVAILABLE, "TEMPORARILY_UNAVAILABLE")

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.value[0])

    @property
    def error_code(self) -> str:
        """The `error_code` of the answer's body."""
        return self.value[1]


class CommandRefused(Exception):  # noqa: N818 - an expected refusal
    """A request about a command is refused."""

    def __init__(self, reason: RefusalReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
