"""The errors of the SDK: each says what failed, and whether the same call may be made again.

``retry`` is true where repeating the call is safe and may help: the relay refused it before it reached the node, or
the method is idempotent; the caller decides. ``never_sent`` is true where the call certainly did not reach the node and
another relay may have it: only such a call is made again by the SDK itself, at the other relays (see `Relays`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# What a relay says (RFC 9209) that has not tried to send the call: it has no link of the node, drains, or lags behind.
_NEVER_SENT = frozenset({"destination_unavailable", "proxy_configuration_error"})


class TrunklineError(Exception):
    """The base of every error that the SDK raises on purpose; its text is one line for a person."""

    retry: bool = False
    never_sent: bool = False

    def __init__(self, message: str, *, retry: bool | None = None) -> None:
        super().__init__(message)
        self.message = message
        if retry is not None:
            self.retry = retry


class ApiError(TrunklineError):
    """The control plane, or a node's agent, answered with an error document.

    Attributes:
        status: the HTTP status.
        error_code: the symbol of the error, ``RESOURCE_DOES_NOT_EXIST`` for example.
        details: what the service added, one mapping for each problem that it found.
        retry_after_seconds: what ``Retry-After`` asked for, if it did.
    """

    def __init__(
        self,
        status: int,
        error_code: str,
        message: str,
        *,
        details: Sequence[Mapping[str, object]] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, retry=status in (429, 502, 503, 504))
        self.status = status
        self.error_code = error_code
        self.details = tuple(details)
        self.retry_after_seconds = retry_after_seconds


class Unreachable(TrunklineError):  # noqa: N818 - named for what happened
    """No connection could be made or kept: a name that does not resolve, a refused port, a certificate not trusted.

    `perhaps_arrived` is true when the connection was lost after the request may have been sent.
    """

    def __init__(self, message: str, *, retry: bool = True, perhaps_arrived: bool = False) -> None:
        super().__init__(message, retry=retry)
        self.perhaps_arrived = perhaps_arrived
        self.never_sent = not perhaps_arrived


class DeadlineExceeded(TrunklineError):  # noqa: N818 - named for what happened
    """The answer did not come in the time the caller gave."""

    retry = True


class CallInterrupted(TrunklineError):  # noqa: N818 - named for what happened
    """The stream was reset, or its link was lost, before the exchange had ended.

    The outcome is not known, unless `never_sent` says that the relay took no further calls on this link.
    """

    def __init__(self, message: str, *, retry: bool | None = None, never_sent: bool = False) -> None:
        super().__init__(message, retry=retry or never_sent)
        self.never_sent = never_sent


class OutputNotKept(TrunklineError):  # noqa: N818 - named for what happened
    """Bytes of an output from offset `begin` to `end` were not kept, and their node is gone; others may follow."""

    def __init__(self, begin: int, end: int) -> None:
        super().__init__(f"{end - begin} bytes of the output, from offset {begin} on, were not kept")
        self.begin = begin
        self.end = end


class RequestInvalid(TrunklineError):  # noqa: N818 - named for what happened
    """What was to be asked for cannot be put into a request: a name that is none, or no text. Nothing was sent."""


class BadResponse(TrunklineError):  # noqa: N818 - named for what happened
    """What came back is not HTTP, or is larger than the caller allowed."""


class RelayRefused(TrunklineError):  # noqa: N818 - named for what happened
    """The relay, not the node, answered: it carries ``Proxy-Status``.

    Attributes:
        status: the HTTP status.
        error: the RFC 9209 error token.
        error_code: the symbol of the error table.
        request_id: the relay's name for this call, to be looked up in its log.
        retry_after_seconds: what ``Retry-After`` asked for, if it did.
    """

    def __init__(
        self,
        status: int,
        error: str,
        error_code: str,
        message: str,
        *,
        request_id: str = "",
        retry_after_seconds: float | None = None,
        retry: bool | None = None,
    ) -> None:
        super().__init__(message, retry=retry)
        self.status = status
        self.error = error
        self.error_code = error_code
        self.request_id = request_id
        self.retry_after_seconds = retry_after_seconds
        self.never_sent = error in _NEVER_SENT


class Unauthenticated(RelayRefused):
    """401 or 407: the token is missing, expired, revoked or not one of this trust domain."""


class PermissionRefused(RelayRefused):
    """403: the token lacks the scope that the call needs."""


class NodeUnknown(RelayRefused):
    """404: no such node, or the token's audience is another one; the relay does not tell which."""


class NodeUnreachable(RelayRefused):
    """502: the node has no link at the relay, or answered with bytes that are not HTTP."""

    retry = True


class NodeSilent(RelayRefused):
    """504: the node has a link but did not answer in time."""

    retry = True


class RelayBusy(RelayRefused):
    """429 or 503: over quota, or the relay is draining; try again after ``retry_after_seconds``."""

    retry = True
