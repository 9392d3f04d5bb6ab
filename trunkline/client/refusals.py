"""Refusals that the relay made itself, as typed errors.

An answer with a ``Proxy-Status`` of ours was made by the relay (RFC 9209); one without it is the node's and is never an
error here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from trunkline.channel.outcomes import PROXY_NAME, Outcome
from trunkline.channel.upgrade import LinkRefused
from trunkline.client.errors import (
    NodeSilent,
    NodeUnknown,
    NodeUnreachable,
    PermissionRefused,
    RelayBusy,
    RelayRefused,
    Unauthenticated,
)
from trunkline.client.node_response import NodeResponse
from trunkline.client.retry_after import read_retry_after

RELAY_NAME = PROXY_NAME.decode("ascii")
LARGEST_REFUSAL_BYTES = 65_536
_BY_STATUS: Mapping[int, type[RelayRefused]] = {
    401: Unauthenticated,
    403: PermissionRefused,
    404: NodeUnknown,
    407: Unauthenticated,
    429: RelayBusy,
    502: NodeUnreachable,
    503: RelayBusy,
    504: NodeSilent,
}
_RETRY = frozenset((outcome.error_code, outcome.proxy_status_error) for outcome in Outcome if outcome.retry)
_PERHAPS_REACHED = frozenset({"connection_terminated", "http_response_timeout"})


def is_relay_made(proxy_status: str) -> bool:
    """Whether this value of ``Proxy-Status`` says that the relay wrote the answer itself: it names an error."""
    name, _, parameters = proxy_status.partition(";")
    return name.strip() == RELAY_NAME and "error=" in parameters


def refused_call(response: NodeResponse, body: bytes, *, repeatable: bool) -> RelayRefused:
    """The error for an answer that the relay made instead of the node.

    `repeatable` says that the method is idempotent: only then may a call that perhaps reached the node be made again.
    """
    error = _parameter(response.get("proxy-status"), "error")
    error_code, message = _read_document(body)
    retry = (error_code, error) in _RETRY and (repeatable or error not in _PERHAPS_REACHED)
    return _BY_STATUS.get(response.status, RelayRefused)(
        response.status,
        error,
        error_code,
        message or f"the relay refused the call with status {response.status}",
        request_id=response.get("trunkline-request-id"),
        retry_after_seconds=read_retry_after(response.get("retry-after")),
        retry=retry,
    )


def refused_link(refusal: LinkRefused) -> RelayRefused:
    """The error for a link that the relay refused to open: no call was sent on it."""
    error = _BY_STATUS.get(refusal.status, RelayRefused)(
        refusal.status,
        "",
        refusal.error_code or "",
        str(refusal),
        request_id=refusal.request_id or "",
        retry_after_seconds=refusal.retry_after_seconds,
    )
    error.never_sent = True
    return error


def _parameter(proxy_status: str, name: str) -> str:
    for parameter in proxy_status.split(";")[1:]:
        key, _, value = parameter.strip().partition("=")
        if key == name:
            return value.strip('"')
    return ""


def _read_document(body: bytes) -> tuple[str, str]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return "", ""
    return str(document.get("error_code", "")), str(document.get("message", ""))
