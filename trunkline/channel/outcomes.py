"""How calls end when it is not the node that answers: the one table of outcomes, and the responses made from it.

A response that the relay made itself always carries `Proxy-Status` (RFC 9209) and a request id, and its content is the
JSON error form, so that it cannot be taken for the node's.
"""

import functools
import json
import re
from enum import Enum
from typing import Final

from trunkline.channel.fields import Field
from trunkline.channel.heads import HeadError, status_line

PROXY_NAME: Final = b"trunkline-relay"
# RFC 6797: a browser that has seen this never again speaks to the relay without TLS.
HSTS: Final = b"max-age=63072000"
KNOWN_RESPONSES: Final = 256
"""So many of the last responses are remembered; of most kinds there is but one."""
_UNQUOTABLE: Final = re.compile(r"[^\x20-\x7e]")
_CHALLENGES: Final = b'Bearer realm="trunkline"', b'Basic realm="trunkline", charset="UTF-8"'


class Outcome(Enum):
    """REST error code, HTTP status, RFC 9209 error, log level, metric label, whether the same call may be retried.

    A status of 401 becomes 407 at the proxy door.
    """

    NO_TOKEN = "UNAUTHENTICATED", 401, "http_request_denied", "info", "no_token", False
    BAD_TOKEN = "UNAUTHENTICATED", 401, "http_request_denied", "info", "bad_token", False
    EXPIRED_TOKEN = "UNAUTHENTICATED", 401, "http_request_denied", "info", "expired_token", False
    REVOKED = "UNAUTHENTICATED", 401, "http_request_denied", "warning", "revoked", False
    NO_CERTIFICATE = "UNAUTHENTICATED", 401, "http_request_denied", "warning", "no_certificate", False
    BAD_CERTIFICATE = "UNAUTHENTICATED", 401, "http_request_denied", "warning", "bad_certificate", False
    MISSING_SCOPE = "PERMISSION_DENIED", 403, "http_request_denied", "info", "missing_scope", False
    LOCKED = "PERMISSION_DENIED", 403, "http_request_denied", "warning", "locked", False
    # A call that was admitted, and has perhaps reached its node: nobody may take it for one that was not.
    CUT_REVOKED = "UNAUTHENTICATED", 401, "connection_terminated", "warning", "cut_revoked", False
    CUT_LOCKED = "PERMISSION_DENIED", 403, "connection_terminated", "warning", "cut_locked", False
    WRONG_AUDIENCE = "RESOURCE_DOES_NOT_EXIST", 404, "destination_not_found", "info", "wrong_audience", False
    NOT_FOUND = "RESOURCE_DOES_NOT_EXIST", 404, "destination_not_found", "info", "not_found", False
    CLONE = "RESOURCE_CONFLICT", 409, "http_request_denied", "error", "clone", False
    SUPERSEDED = "RESOURCE_CONFLICT", 409, "http_request_denied", "info", "superseded", False
    BAD_REQUEST = "BAD_REQUEST", 400, "http_request_error", "info", "bad_request", False
    EXPECTATION_FAILED = "BAD_REQUEST", 417, "http_request_error", "info", "expectation_failed", False
    TARGET_TOO_LONG = "BAD_REQUEST", 414, "http_request_error", "info", "target_too_long", False
    HEAD_TOO_LARGE = "BAD_REQUEST", 431, "http_request_error", "info", "head_too_large", False
    UPGRADE_REQUIRED = "BAD_REQUEST", 426, "http_request_error", "info", "upgrade_required", False
    REQUEST_TIMEOUT = "DEADLINE_EXCEEDED", 408, "http_request_error", "info", "request_timeout", True
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED", 501, "http_request_error", "info", "not_implemented", False
    UNKNOWN_VERSION = "NOT_IMPLEMENTED", 505, "http_request_error", "info", "unknown_version", False
    OVER_QUOTA = "RESOURCE_EXHAUSTED", 429, "connection_limit_reached", "warning", "over_quota", True
    DRAINING = "TEMPORARILY_UNAVAILABLE", 503, "destination_unavailable", "info", "draining", True
    OVERLOADED = "TEMPORARILY_UNAVAILABLE", 503, "connection_limit_reached", "warning", "overloaded", True
    STALE_TRUST = "TEMPORARILY_UNAVAILABLE", 503, "proxy_configuration_error", "error", "stale_trust", True
    NO_LISTENER = "NODE_UNREACHABLE", 502, "destination_unavailable", "info", "no_listener", True
    LISTENER_LOST = "NODE_UNREACHABLE", 502, "connection_terminated", "warning", "listener_lost", True
    BAD_RESPONSE = "BAD_NODE_RESPONSE", 502, "http_protocol_error", "warning", "bad_response", False
    LISTENER_SILENT = "NODE_TIMEOUT", 504, "http_response_timeout", "warning", "listener_silent", True
    INTERNAL_ERROR = "INTERNAL_ERROR", 500, "proxy_internal_error", "error", "internal_error", False

    def __init__(
        self,
        error_code: str,
        http_status: int,
        proxy_status_error: str,
        log_level: str,
        metric_label: str,
        retry: bool,
    ) -> None:
        self.error_code = error_code
        self.http_status = http_status
        self.proxy_status_error = proxy_status_error
        self.log_level = log_level
        self.metric_label = metric_label
        self.retry = retry

    @property
    def code(self) -> str:
        """The outcome's own name in lower case, as metrics and logs show it."""
        return self.metric_label


_BY_HEAD_STATUS: Final = {
    414: Outcome.TARGET_TOO_LONG,
    417: Outcome.EXPECTATION_FAILED,
    431: Outcome.HEAD_TOO_LARGE,
    501: Outcome.NOT_IMPLEMENTED,
    505: Outcome.UNKNOWN_VERSION,
}


def outcome_of_head_error(error: HeadError) -> Outcome:
    """The outcome of a request head that was refused."""
    return _BY_HEAD_STATUS.get(error.status, Outcome.BAD_REQUEST)


def relay_response(
    outcome: Outcome,
    message: str,
    *,
    request_id: str,
    proxy_door: bool = False,
    close: bool = False,
    head_only: bool = False,
    retry_after_seconds: int | None = None,
) -> bytes:
    """The whole response, head and content, for a call that ends with `outcome`.

    `message` is one line for humans and must hold no secret. `head_only` leaves the content out, for HEAD.
    """
    before, after = _around_request_id(outcome, message, proxy_door, close, head_only, retry_after_seconds)
    return before + request_id.encode("ascii") + after


@functools.lru_cache(KNOWN_RESPONSES)
def _around_request_id(
    outcome: Outcome, message: str, proxy_door: bool, close: bool, head_only: bool, retry_after_seconds: int | None
) -> tuple[bytes, bytes]:
    """What stands before the request id and what behind it; of a flood of refusals, all but the id is the same."""
    content = json.dumps({"error_code": outcome.error_code, "message": message}).encode("ascii")
    status = 407 if proxy_door and outcome.http_status == 401 else outcome.http_status
    before: list[Field] = [
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"%d" % len(content)),
        (b"Cache-Control", b"no-store"),
        (b"Strict-Transport-Security", HSTS),
        (b"Proxy-Status", _proxy_status(outcome, message)),
    ]
    after = _required_by(status)
    if retry_after_seconds is not None:
        after.append((b"Retry-After", b"%d" % retry_after_seconds))
    if close:
        after.append((b"Connection", b"close"))
    head = status_line(status) + _lines(before) + b"Trunkline-Request-Id: "
    end = b"\r\n" + _lines(after) + b"\r\n"
    return head, end if head_only else end + content


def readiness_response(ready: bool, *, request_id: str, head_only: bool = False) -> bytes:
    """The whole response, and the connection's last, that says whether the relay is ready, and nothing else."""
    status, content = (200, b"ready\n") if ready else (503, b"not ready\n")
    fields: list[Field] = [
        (b"Content-Type", b"text/plain"),
        (b"Content-Length", b"%d" % len(content)),
        (b"Cache-Control", b"no-store"),
        (b"Strict-Transport-Security", HSTS),
        (b"Proxy-Status", PROXY_NAME),
        (b"Trunkline-Request-Id", request_id.encode("ascii")),
        (b"Connection", b"close"),
    ]
    return status_line(status) + _lines(fields) + (b"\r\n" if head_only else b"\r\n" + content)


def _lines(fields: list[Field]) -> bytes:
    return b"".join([b"%b: %b\r\n" % field for field in fields])


def _required_by(status: int) -> list[Field]:
    """The fields that RFC 9110 sections 15.5.2, 15.5.8 and 15.5.22 demand with a status."""
    bearer, basic = _CHALLENGES
    if status == 407:
        return [(b"Proxy-Authenticate", bearer), (b"Proxy-Authenticate", basic)]
    if status == 426:
        return [(b"Upgrade", b"yamux"), (b"Connection", b"upgrade")]
    return [(b"WWW-Authenticate", bearer)] if status == 401 else []


def _proxy_status(outcome: Outcome, message: str) -> bytes:
    details = _UNQUOTABLE.sub("?", message).replace("\\", "\\\\").replace('"', '\\"')
    value = f'{PROXY_NAME.decode("ascii")}; error={outcome.proxy_status_error}; details="{details}"'
    return value.encode("ascii")
