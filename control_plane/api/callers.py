"""Who calls: roles of routes, and the caller that a handler is given once it was authorised."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from aiohttp import web

from control_plane.storage.audit import Actor


class Role(Enum):
    """Who may call a route; exactly one role each."""

    PUBLIC = "public"
    OPERATOR = "operator"
    NODE = "node"
    RELAY = "relay"


@dataclass(frozen=True, slots=True)
class Caller:
    """An authorised caller; ids are empty where they do not apply.

    Attributes:
        actor: as the audit names it.
        subject_id: the operator, node or relay.
        workspace_id: the workspace of a node.
        serial: of the client certificate, as revocations name it.
    """

    actor: Actor
    subject_id: str = ""
    workspace_id: str = ""
    serial: str = ""


Handler = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path, whose role is checked before its handler runs.

    `query` says that the handler reads the query. Of an operator's route that reads none, any parameter is refused:
    whoever sends one expects something of it.

    `while_locked` keeps a route open to a node that is locked, or whose workspace or certificate is: for what it needs
    to be whole again when the lock ends, and for nothing else.
    """

    method: str
    path: str
    role: Role
    handler: Handler
    query: bool = False
    while_locked: bool = False


class Resource(Protocol):
    """One resource of the API."""

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        ...
