"""The refusals of the control plane: one table of codes, each with its HTTP status, and the error that carries one."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any


class ErrorCode(Enum):
    """Every `error_code` that the API answers, with its HTTP status (RFC 9110 section 15; RFC 4918 section 11.5)."""

    INVALID_PARAMETER_VALUE = "INVALID_PARAMETER_VALUE", 400
    MALFORMED_REQUEST = "MALFORMED_REQUEST", 400
    RESOURCE_LIMIT_EXCEEDED = "RESOURCE_LIMIT_EXCEEDED", 400
    UNAUTHENTICATED = "UNAUTHENTICATED", 401
    PERMISSION_DENIED = "PERMISSION_DENIED", 403
    RESOURCE_DOES_NOT_EXIST = "RESOURCE_DOES_NOT_EXIST", 404
    ENDPOINT_NOT_FOUND = "ENDPOINT_NOT_FOUND", 404
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED", 405
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT", 408
    RESOURCE_CONFLICT = "RESOURCE_CONFLICT", 409
    REQUEST_TOO_LARGE = "REQUEST_TOO_LARGE", 413
    RANGE_NOT_SATISFIABLE = "RANGE_NOT_SATISFIABLE", 416
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED", 429
    INTERNAL_ERROR = "INTERNAL_ERROR", 500
    NODE_UNREACHABLE = "NODE_UNREACHABLE", 502
    BAD_NODE_RESPONSE = "BAD_NODE_RESPONSE", 502
    TEMPORARILY_UNAVAILABLE = "TEMPORARILY_UNAVAILABLE", 503
    INSUFFICIENT_STORAGE = "INSUFFICIENT_STORAGE", 507

    def __init__(self, symbol: str, status: int) -> None:
        self.symbol = symbol
        self.status = status


class ApiError(Exception):
    """A refusal of a request, as the caller will read it; the message is one line that says what to do."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        details: Sequence[Mapping[str, Any]] | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
        self.retry_after_seconds = retry_after_seconds


def invalid(field: str, problem: str) -> ApiError:
    """Return the refusal of one field of a request."""
    return ApiError(
        ErrorCode.INVALID_PARAMETER_VALUE, f"{field}: {problem}", details=[{"field": field, "problem": problem}]
    )


def limit_reached(message: str) -> ApiError:
    """Return the refusal of one more of what there is the largest number of already.

    Clients ask again by themselves after a 429, for minutes; this is no 429, since waiting does not help.
    """
    return ApiError(ErrorCode.RESOURCE_LIMIT_EXCEEDED, message)


def not_found(kind: str, listed_at: str, *, place: str = "", field: str | None = None) -> ApiError:
    """Return the refusal of an address that nothing is at.

    What was asked for is never repeated: it may be a token that was put where an id belongs, and messages are logged.

    Args:
        kind: what is not there, such as `node`.
        listed_at: the path at which all there are of it are listed.
        place: where it is not, such as ` in the workspace finance`.
        field: the field of the request's body that named it; None where its path did.
    """
    problem = f"there is no such {kind}{place}; GET {listed_at} lists what there is"
    details = None if field is None else [{"field": field, "problem": problem}]
    prefix = "" if field is None else f"{field}: "
    return ApiError(ErrorCode.RESOURCE_DOES_NOT_EXIST, prefix + problem, details=details)


def not_found_in(workspace: str, kind: str, *, field: str | None = None) -> ApiError:
    """Return the refusal of an address that nothing is at in the workspace of this name; see `not_found`."""
    listed_at = f"/w/{workspace}/api/2.0/{kind.replace(' ', '-')}s"
    return not_found(kind, listed_at, place=f" in the workspace {workspace}", field=field)


def conflict(message: str) -> ApiError:
    """Return the refusal of a request that contradicts what exists."""
    return ApiError(ErrorCode.RESOURCE_CONFLICT, message)
