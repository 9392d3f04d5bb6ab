"""`/api/2.0/locks`: keeping nodes, workspaces, tokens and certificates from use for a while."""

from typing import Any

from aiohttp import web
from pydantic import Field

from control_plane.api.adoption import Ended, adoption_of
from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext
from control_plane.api.pages import PageQuery
from control_plane.api.requests import Nothing, OperatorRequest, Text, read_body, read_query
from control_plane.api.responses import json_response
from control_plane.api.revocations import Kind, checked_target, refuse_serving
from control_plane.errors import not_found
from control_plane.identity.own_identity import OwnIdentity
from control_plane.identity.trust_followers import TrustFollowers
from control_plane.settings import DAY_SECONDS
from control_plane.storage import locks
from control_plane.storage.audit import Happening, append
from control_plane.storage.locks import LockRequest
from control_plane.storage.records.trust import Lock

PATH = "/api/2.0/locks"
LONGEST_SECONDS = 366 * DAY_SECONDS


class NewLock(OperatorRequest):
    """What to lock, for how long, and why."""

    kind: Kind
    id: str = Field(max_length=64)
    lifetime_seconds: int = Field(ge=1, le=LONGEST_SECONDS)
    reason: Text = Field(min_length=1, max_length=500)


class LockQuery(PageQuery):
    """The filters of the list; `ended` adds locks that were lifted or have expired."""

    kind: Kind | None = None
    ended: bool = False


class LockResource:
    """Locks as operators see them."""

    def __init__(self, context: ApiContext, followers: TrustFollowers, own: OwnIdentity) -> None:
        self._context = context
        self._followers = followers
        self._own = own

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("POST", PATH, Role.OPERATOR, self.create),
            Route("GET", PATH, Role.OPERATOR, self.list, query=True),
            Route("GET", PATH + "/{lock_id}", Role.OPERATOR, self.get),
            Route("DELETE", PATH + "/{lock_id}", Role.OPERATOR, self.lift),
        ]

    async def create(self, request: web.Request, caller: Caller) -> web.Response:
        """Lock one thing, durably; sent again within ten minutes, the answer is the same lock with status 200."""
        body = await read_body(request, NewLock)
        target = checked_target(body.kind, body.id)
        refuse_serving(self._own, body.kind, target)
        wanted = LockRequest(body.kind, target, body.lifetime_seconds, body.reason)
        now = self._context.clock.now()
        async with self._context.database.write() as session:
            lock, new = await locks.create(session, wanted, caller.actor.name, int(now * 1000))
            if new:
                details = {"kind": lock.kind, "id": lock.id, "reason": lock.reason, "sequence": lock.sequence,
                           "expire_time": lock.expire_time}  # fmt: skip
                append(session, now, caller.actor, Happening("lock.create", resource=lock.lock_id, details=details))
        await self._context.trust.refresh()
        return json_response(self._view(lock), 201 if new else 200)

    async def list(self, request: web.Request, caller: Caller) -> web.Response:
        """List locks in the order they were made."""
        query = read_query(request, LockQuery)
        asked = self._context.pages.asked_for(request.path, query)
        async with self._context.database.read() as session:
            rows = await locks.list_page(
                session,
                kind=query.kind,
                ended=query.ended,
                after=asked.after(int),
                most=asked.most_rows,
                now_ms=self._context.now_ms(),
            )
        page, next_page = asked.cut(rows, lambda row: (row.sequence,))
        return json_response({"locks": [self._view(row) for row in page]} | next_page)

    async def get(self, request: web.Request, caller: Caller) -> web.Response:
        """Return one lock, with its adoption."""
        async with self._context.database.read() as session:
            lock = await locks.find(session, request.match_info["lock_id"])
            if lock is None:
                raise not_found("lock", PATH)
            ended = Ended("lock", lock.kind, lock.id, lock.sequence, lock.creation_time, lock.lift_sequence)
            adoption = await adoption_of(session, ended, self._followers)
        return json_response(self._view(lock) | {"adoption": adoption})

    async def lift(self, request: web.Request, caller: Caller) -> web.Response:
        """End a lock before its time; one that has ended already stays as it is."""
        await read_body(request, Nothing)
        now = self._context.clock.now()
        async with self._context.database.write() as session:
            lock = await locks.find(session, request.match_info["lock_id"])
            if lock is None:
                raise not_found("lock", PATH)
            if await locks.lift(session, lock, caller.actor.name, int(now * 1000)):
                details = {"kind": lock.kind, "id": lock.id, "sequence": lock.lift_sequence}
                append(session, now, caller.actor, Happening("lock.lift", resource=lock.lock_id, details=details))
        await self._context.trust.refresh()
        return json_response(self._view(lock))

    def _view(self, lock: Lock) -> dict[str, Any]:
        columns = ("lock_id", "kind", "id", "reason", "sequence", "creation_time", "expire_time", "locked_by",
                   "lift_time", "lifted_by", "lift_sequence")  # fmt: skip
        view = {name: getattr(lock, name) for name in columns}
        view["state"] = self._state(lock)
        return {key: value for key, value in view.items() if value is not None}

    def _state(self, lock: Lock) -> str:
        if lock.lift_time is not None:
            return "LIFTED"
        return "EXPIRED" if lock.expire_time <= self._context.now_ms() else "IN_FORCE"
