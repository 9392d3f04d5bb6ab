"""What all routes of the agent's API share: the caller's scopes, the form of errors, deadlines."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from aiohttp import web

from node_agent.commands.errors import CommandRefused
from node_agent.commands.submission import SubmissionRefused
from node_agent.exchanges.callers import Caller, Refusal
from node_agent.exchanges.watch import CallerWatch
from node_agent.files.admission import PlaceRefused
from node_agent.files.failures import FileFailed
from node_agent.files.worker_process import WorkerGone
from node_agent.shells.request import RequestRefused

CALLER = "trunkline_caller"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Stale = Callable[[Caller], Refusal | None]


class ApiRefused(Exception):  # noqa: N818 - an expected refusal
    """A request is refused: HTTP status, `error_code`, and one line that says why."""

    def __init__(self, status: int, error_code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error_code = error_code
        self.message = message
        self.headers = headers


def caller_of(request: web.Request) -> Caller:
    """Return who makes the request; the stream was admitted for that caller before it came here."""
    caller = None if request.transport is None else request.transport.get_extra_info(CALLER)
    if not isinstance(caller, Caller):
        raise ApiRefused(401, "UNAUTHENTICATED", "the connection carries no token")
    return caller


def json_response(document: Any, status: int = 200) -> web.Response:
    """Return a JSON answer."""
    body = json.dumps(document, separators=(",", ":")).encode()
    return web.Response(status=status, body=body, content_type="application/json")


def error_response(
    status: int,
    error_code: str,
    message: str,
    headers: dict[str, str] | None = None,
    details: dict[str, Any] | None = None,
) -> web.StreamResponse:
    """Return an error in the form of the API."""
    document = {"error_code": error_code, "message": message} | ({"details": details} if details else {})
    response = json_response(document, status)
    response.headers.update(headers or {})
    response.headers["Cache-Control"] = "no-store"
    return response


def scoped(
    scope: str,
    handler: Handler,
    watch: CallerWatch,
    stale: Stale,
    *,
    query_keys: Collection[str],
    seconds: float | None,
) -> Handler:
    """Return `handler` for callers with `scope` only, ended when the token is revoked or the time is over.

    Args:
        scope: what the token must allow.
        handler: the route's own.
        watch: knows what to cut when a token is revoked.
        stale: says whether a caller may still begin a call: its connection may be older than its token is valid.
        query_keys: the keys that the query may have, each once; without any there is no query at all.
        seconds: how long the answer may take; None for answers that follow something.
    """

    async def checked(request: web.Request) -> web.StreamResponse:
        caller = caller_of(request)
        refusal = stale(caller)
        if refusal is not None:
            raise ApiRefused(refusal.outcome.http_status, refusal.outcome.error_code, refusal.message)
        if not caller.claims.scopes.allows(scope):
            raise ApiRefused(403, "PERMISSION_DENIED", f"the token does not allow {scope}")
        _refuse_codings(request)
        _check_query(request, query_keys)
        with watch.held(caller.claims, _Cut(request)):
            try:
                async with asyncio.timeout(seconds):
                    return await handler(request)
            except ConnectionResetError:
                return web.Response(status=400)  # the caller has gone, and will not get this either

    return checked


def _refuse_codings(request: web.Request) -> None:
    if any(coding.lower() != "identity" for coding in request.headers.getall("Content-Encoding", ())):
        raise ApiRefused(400, "BAD_REQUEST", "the body must not be compressed: send no Content-Encoding")


def _check_query(request: web.Request, keys: Collection[str]) -> None:
    """Refuse a query with other keys, or one twice; what was asked for is not repeated."""
    if not keys and request.query_string:
        raise ApiRefused(400, "INVALID_PARAMETER_VALUE", "this route takes no query")
    given = set(request.query)
    if len(request.query) != len(given) or not given <= set(keys):
        message = f"this route takes {', '.join(keys)} in its query, each once, and nothing else"
        raise ApiRefused(400, "INVALID_PARAMETER_VALUE", message)


class _Cut:
    """Breaks a request off."""

    is_stream = False

    def __init__(self, request: web.Request) -> None:
        self._request = request

    def cut(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


@web.middleware
async def errors_as_documents(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every refusal in the form of the API."""
    try:
        return await handler(request)
    except ApiRefused as error:
        return error_response(error.status, error.error_code, error.message, error.headers)
    except CommandRefused as error:
        rule = error.refusal.policy_rule
        details = None if rule is None else {"policy_rule": rule}
        return error_response(error.reason.status, error.reason.error_code, error.message, details=details)
    except FileFailed as error:
        return error_response(error.status, error.error_code, error.message, details=error.details)
    except WorkerGone as error:
        return error_response(503, "TEMPORARILY_UNAVAILABLE", str(error))
    except (SubmissionRefused, RequestRefused, PlaceRefused) as error:
        return error_response(400, "INVALID_PARAMETER_VALUE", str(error))
    except web.HTTPNotFound:
        return error_response(404, "ENDPOINT_NOT_FOUND", "the node's agent has no such route")
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return error_response(405, "METHOD_NOT_ALLOWED", f"this route takes {allowed}", {"Allow": allowed})
    except web.HTTPRequestEntityTooLarge:
        return error_response(413, "BAD_REQUEST", "the body is too large")
    except TimeoutError:
        return error_response(408, "DEADLINE_EXCEEDED", "the request was not complete in time")
