"""The aiohttp application: routes with their roles, and what holds for every answer.

Every answer carries `Trunkline-Request-Id`, `Trunkline-Trust-Sequence`, HSTS and `X-Content-Type-Options`; every
refusal is JSON. What goes wrong inside becomes INTERNAL_ERROR with the request id, under which the log has the reason.
"""

import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.typedefs import Handler as AiohttpHandler
from aiohttp.typedefs import Middleware

from control_plane.allowances import Allowances
from control_plane.api.callers import Caller, Role, Route
from control_plane.api.credentials import Credentials
from control_plane.api.requests import NoQuery, read_query, refuse_body
from control_plane.api.responses import error_response
from control_plane.errors import ApiError, ErrorCode, invalid
from control_plane.metrics import ControlPlaneMetrics
from control_plane.refusal_ledger import RefusalLedger
from control_plane.storage.audit import Actor, Happening, append
from control_plane.storage.database import Database, Writers, writers
from control_plane.storage.errors import (
    StorageBusyError,
    StorageError,
    StorageFullError,
    StorageLostError,
    StorageUnreachableError,
)
from control_plane.storage.text import unstorable
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger
from trunkline.runtime.redaction import redact_text

REQUEST_ID = web.RequestKey("request_id", str)
HSTS = "max-age=31536000; includeSubDomains"
_MUTATING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
WRITERS: Mapping[Role, Writers] = {
    Role.PUBLIC: Writers.STRANGERS,
    Role.NODE: Writers.NODES,
    Role.RELAY: Writers.RELAYS,
    Role.OPERATOR: Writers.OWN,
}
"""In whose place in the line a route writes: whoever floods one route holds up others of the same role at most."""
_CREDENTIAL_ERRORS = frozenset({ErrorCode.UNAUTHENTICATED, ErrorCode.PERMISSION_DENIED})
# No refusal of what was asked for: it may be asked for again, as often as it takes, and each time nothing has happened.
_PASSING_ERRORS = frozenset(
    {ErrorCode.NODE_UNREACHABLE, ErrorCode.BAD_NODE_RESPONSE, ErrorCode.TEMPORARILY_UNAVAILABLE}
)


@dataclass(frozen=True, slots=True)
class Front:
    """What every request passes through; `trust_sequence` tells the number of the newest trust document."""

    credentials: Credentials
    allowances: Allowances
    trust_sequence: Callable[[], int]
    database: Database
    ledger: RefusalLedger
    metrics: ControlPlaneMetrics
    clock: Clock
    log: Logger


def build_application(front: Front, routes: Iterable[Route]) -> web.Application:
    """Return the application that serves the routes."""
    app = web.Application(middlewares=[_answering(front)])
    for route in routes:
        app.router.add_route(route.method, route.path, _guarded(front, route))
    app.on_response_prepare.append(_signing(front))
    return app


def _guarded(front: Front, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return the handler behind the check of its role."""

    async def handle(request: web.Request) -> web.StreamResponse:
        writers.set(WRITERS[route.role])
        caller = await _authorise(front, route, request)
        if route.role is Role.NODE:
            _spend(front, route, caller)
        try:
            if route.role is Role.OPERATOR:
                await _refuse_unread(route, request)
            return await route.handler(request, caller)
        except ApiError as error:
            if route.role is Role.OPERATOR and route.method in _MUTATING and error.code not in _PASSING_ERRORS:
                await _audit_failure(front, route, request, caller, error)
            raise

    return handle


async def _refuse_unread(route: Route, request: web.Request) -> None:
    """Refuse what an operator asks for where the route does not look: whoever sends it expects something of it."""
    if not route.query:
        read_query(request, NoQuery)
    if route.method == "GET":
        await refuse_body(request)


async def _authorise(front: Front, route: Route, request: web.Request) -> Caller:
    try:
        return await front.credentials.authorise(request, route, request[REQUEST_ID])
    except ApiError as error:
        if error.code in _CREDENTIAL_ERRORS:
            front.metrics.refusals.labels(route.role.value, error.code.symbol).inc()
            actor = Actor("anonymous", request[REQUEST_ID], request.remote)
            front.ledger.record(action_of(route.method, route.path), error.message, actor)
        raise


def _spend(front: Front, route: Route, caller: Caller) -> None:
    """Take the room for what a call of a node writes down; what a report holds besides, its route takes itself."""
    try:
        front.allowances.spend(caller.subject_id)
    except ApiError as error:
        front.metrics.refusals.labels(route.role.value, error.code.symbol).inc()
        front.ledger.record(action_of(route.method, route.path), error.message, caller.actor)
        raise


async def _audit_failure(front: Front, route: Route, request: web.Request, caller: Caller, error: ApiError) -> None:
    happening = Happening(
        action_of(route.method, route.path),
        f"refused: {error.code.symbol}",
        # Whoever puts a token where its id belongs must not find it in a table that nothing is ever deleted from.
        resource=redact_text(request.path)[:512],
        details={"message": redact_text(error.message)[:512]},
    )
    try:
        async with front.database.write() as session:
            append(session, front.clock.now(), caller.actor, happening)
    except StorageError as problem:
        front.log.error("audit.not_written", action=happening.action, reason=str(problem))


def action_of(method: str, path: str) -> str:
    """Return how the audit names an attempt on a route before the handler has named the action itself."""
    return f"{method} {path}"


def _answering(front: Front) -> Middleware:
    @web.middleware
    async def answer(request: web.Request, handler: AiohttpHandler) -> web.StreamResponse:
        request[REQUEST_ID] = _new_request_id()
        started = time.perf_counter()
        try:
            _refuse_old_protocol(request)
            _refuse_unstorable(request)
            response = await handler(request)
        except ConnectionError:
            raise  # the client went away: nobody is left to answer
        except Exception as error:  # noqa: BLE001 - the edge of the API: whatever happens becomes an answer
            response = error_response(_refusal(front, request, error))
            if isinstance(error, web.HTTPMethodNotAllowed):
                response.headers["Allow"] = _allowed(error)  # RFC 9110 section 15.5.6
        _measure(front.metrics, request, response, time.perf_counter() - started)
        return response

    return answer


def _new_request_id() -> str:
    return f"rq-{secrets.token_hex(10)}"


def _refuse_old_protocol(request: web.Request) -> None:
    if request.version not in (HttpVersion10, HttpVersion11):
        raise ApiError(ErrorCode.MALFORMED_REQUEST, "speak HTTP/1.1")


def _refuse_unstorable(request: web.Request) -> None:
    """Refuse an address that names nothing that is on record, since no database takes it as text."""
    if (problem := unstorable(request.path)) is not None:
        raise invalid("path", problem)


def _refusal(front: Front, request: web.Request, error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, StorageBusyError | StorageUnreachableError | StorageLostError):  # of these the last ends us
        return ApiError(ErrorCode.TEMPORARILY_UNAVAILABLE, str(error), retry_after_seconds=1)
    if isinstance(error, StorageFullError):
        front.log.error("storage.full", reason=str(error))
        return ApiError(ErrorCode.INSUFFICIENT_STORAGE, str(error))
    if isinstance(error, web.HTTPMethodNotAllowed):
        return ApiError(ErrorCode.METHOD_NOT_ALLOWED, f"use {_allowed(error)} here")
    if isinstance(error, web.HTTPException):
        hint = ": no path of this API ends in a slash" if request.path.endswith("/") else ""
        return ApiError(ErrorCode.ENDPOINT_NOT_FOUND, f"there is no such endpoint{hint}")
    request_id = request[REQUEST_ID]
    front.log.error(
        "api.failed", request_id=request_id, path=request.path[:256], error=type(error).__name__, exc_info=error
    )
    return ApiError(ErrorCode.INTERNAL_ERROR, f"the control plane failed; its log knows why under {request_id}")


def _allowed(error: web.HTTPMethodNotAllowed) -> str:
    return ", ".join(sorted(error.allowed_methods))


def _measure(metrics: ControlPlaneMetrics, request: web.Request, response: web.StreamResponse, seconds: float) -> None:
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "none"
    method = request.method if request.method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE") else "other"
    metrics.requests.labels(method, route, str(response.status)).inc()
    if not response.prepared:
        metrics.request_seconds.labels(route).observe(seconds)


def _signing(front: Front) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Return what signs every answer; the trust document's number is for nodes, from which relays may keep it."""

    async def sign(request: web.Request, response: web.StreamResponse) -> None:
        # What aiohttp answers by itself, before any of our code has seen the request, has none yet.
        response.headers["Trunkline-Request-Id"] = request.get(REQUEST_ID) or _new_request_id()
        response.headers["Trunkline-Trust-Sequence"] = str(front.trust_sequence())
        response.headers["Strict-Transport-Security"] = HSTS
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Server"] = "trunkline-control-plane"

    return sign
