"""`/w/{workspace}/api/2.0/global-init-scripts` and `…/clusters/{cluster}/init-scripts`: what new nodes run first.

Paths and fields of the global ones are those of Databricks; the scripts of a cluster have the same form. Whoever may
change a script runs it, on every node that bootstraps afterwards: each change is audited with the script's SHA-256.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Annotated, Any

from aiohttp import web
from pydantic import AfterValidator, Field, StringConstraints
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.clusters import the_cluster
from control_plane.api.command_bodies import SecretReferences
from control_plane.api.context import ApiContext, the_workspace
from control_plane.api.pages import PageQuery
from control_plane.api.requests import Nothing, OperatorRequest, read_body, read_query
from control_plane.api.responses import json_response
from control_plane.errors import ApiError, conflict, limit_reached, not_found
from control_plane.names import is_id, new_id
from control_plane.secrets.references import names_in, no_such_secret
from control_plane.storage import init_scripts, secrets
from control_plane.storage.audit import Happening, append
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.init_scripts import InitScript
from control_plane.storage.records.nodes import Cluster

GLOBAL_PATH = "/w/{workspace}/api/2.0/global-init-scripts"
CLUSTER_PATH = "/w/{workspace}/api/2.0/clusters/{cluster}/init-scripts"
LARGEST_SCRIPT_BYTES = 64 * 1024
MOST_GLOBAL_SCRIPTS = 50
MOST_CLUSTER_SCRIPTS = 10
MOST_BASE64_CHARACTERS = 4 * (LARGEST_SCRIPT_BYTES // 3 + 1)
LARGEST_POSITION = 1_000_000


def _script(text: str) -> str:
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64") from None
    if not 0 < len(content) <= LARGEST_SCRIPT_BYTES:
        raise ValueError(f"must be 1 to {LARGEST_SCRIPT_BYTES} bytes before base64")
    if content.startswith(b"#!") and content.split(b"\n", 1)[0].endswith(b"\r"):
        raise ValueError("its first line ends with CR LF, which no interpreter is found under: end lines with LF")
    return text


def _no_id(text: str) -> str:
    if is_id(text):
        raise ValueError("must not have the form of an id")
    return text


ScriptName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._+@()-]{0,127}$"), AfterValidator(_no_id)
]
ScriptContent = Annotated[str, Field(max_length=MOST_BASE64_CHARACTERS), AfterValidator(_script)]
Position = Annotated[int, Field(ge=0, le=LARGEST_POSITION)]


class NewInitScript(OperatorRequest):
    """The body of a creation; a script that is not enabled is kept and not run."""

    name: ScriptName
    script: ScriptContent
    enabled: bool = False
    position: Position | None = None
    secrets: SecretReferences | None = None


class InitScriptChange(OperatorRequest):
    """The body of a change; what is left out stays."""

    name: ScriptName | None = None
    script: ScriptContent | None = None
    enabled: bool | None = None
    position: Position | None = None
    secrets: SecretReferences | None = None


@dataclass(frozen=True, slots=True)
class _Owner:
    """Whose scripts a request is about: the workspace's, or one cluster's."""

    workspace: Workspace
    cluster: Cluster | None

    @property
    def owner_id(self) -> str:
        return self.cluster.cluster_id if self.cluster is not None else self.workspace.workspace_id

    @property
    def most(self) -> int:
        return MOST_CLUSTER_SCRIPTS if self.cluster is not None else MOST_GLOBAL_SCRIPTS

    def no_such_script(self) -> ApiError:
        listed_at = f"/w/{self.workspace.workspace}/api/2.0/"
        if self.cluster is None:
            return not_found("init script", listed_at + "global-init-scripts")
        return not_found("init script", f"{listed_at}clusters/{self.cluster.cluster}/init-scripts")


class InitScriptResource:
    """Init scripts as operators see them."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            route
            for path in (GLOBAL_PATH, CLUSTER_PATH)
            for route in (
                Route("POST", path, Role.OPERATOR, self.create),
                Route("GET", path, Role.OPERATOR, self.list, query=True),
                Route("GET", path + "/{script_id}", Role.OPERATOR, self.get),
                Route("PATCH", path + "/{script_id}", Role.OPERATOR, self.change),
                Route("DELETE", path + "/{script_id}", Role.OPERATOR, self.delete),
            )
        ]

    async def create(self, request: web.Request, caller: Caller) -> web.Response:
        """Create a script; sent twice, the second answer is the first's with status 200."""
        body = await read_body(request, NewInitScript)
        now = self._context.clock.now()
        async with self._context.database.write() as session:
            owner = await _owner(session, request)
            known = await init_scripts.find(session, owner.owner_id, body.name)
            others = await init_scripts.of_owner(session, owner.owner_id)
            if known is not None:
                if not _is_same(known, body, end=len(others) - 1):
                    raise conflict(
                        "an init script of this name exists with other content, or elsewhere: change it with PATCH"
                    )
                return json_response(_view(known))
            if len(others) >= owner.most:
                raise limit_reached(f"there may be {owner.most} init scripts here: delete some")
            await _require_secrets(session, owner.workspace, body.secrets)
            script = _record(body, owner, caller.actor.name, int(now * 1000))
            session.add(script)
            init_scripts.place(others, script, body.position)
            append(session, now, caller.actor, _happening("init_script.create", owner, script))
            view = _view(script)
        return json_response(view, 201)

    async def list(self, request: web.Request, caller: Caller) -> web.Response:
        """List the scripts in the order in which they run, without their content.

        Positions change when others come and go, so a page says which scripts were listed: there are few.
        """
        query = read_query(request, PageQuery)
        asked = self._context.pages.asked_for(request.path, query)
        async with self._context.database.read() as session:
            owner = await _owner(session, request)
            scripts = await init_scripts.of_owner(session, owner.owner_id)
        listed = asked.start or ()
        rows = [script for script in scripts if script.script_id not in listed][: asked.most_rows]
        listed += tuple(row.script_id for row in rows[: query.page_size])
        page, next_page = asked.cut(rows, lambda _: listed)
        return json_response({"scripts": [_view(row) for row in page]} | next_page)

    async def get(self, request: web.Request, caller: Caller) -> web.Response:
        """Return one script with its content."""
        async with self._context.database.read() as session:
            _, script = await _found(session, request)
        return json_response(_view(script) | {"script": base64.b64encode(script.content).decode("ascii")})

    async def change(self, request: web.Request, caller: Caller) -> web.Response:
        """Change a script, or its place; nodes that have bootstrapped already are not touched."""
        body = await read_body(request, InitScriptChange)
        now = self._context.clock.now()
        async with self._context.database.write() as session:
            owner, script = await _found(session, request)
            before = _state(script)
            await self._apply(session, owner, script, body)
            if _state(script) != before:
                script.updated_at, script.updated_by = int(now * 1000), caller.actor.name
                append(session, now, caller.actor, _happening("init_script.change", owner, script))
            view = _view(script)
        return json_response(view)

    async def delete(self, request: web.Request, caller: Caller) -> web.Response:
        """Delete a script; those behind it move up."""
        await read_body(request, Nothing)
        async with self._context.database.write() as session:
            owner, script = await _found(session, request)
            await session.delete(script)
            await session.flush()
            init_scripts.close_gaps(await init_scripts.of_owner(session, owner.owner_id))
            append(session, self._context.clock.now(), caller.actor, _happening("init_script.delete", owner, script))
        return json_response({})

    async def _apply(self, session: AsyncSession, owner: _Owner, script: InitScript, change: InitScriptChange) -> None:
        if change.name is not None and change.name != script.name:
            if await init_scripts.find(session, owner.owner_id, change.name) is not None:
                raise conflict("another init script has this name")
            script.name = change.name
        if change.script is not None:
            script.content = base64.b64decode(change.script)
            script.sha256 = hashlib.sha256(script.content).hexdigest()
        if change.enabled is not None:
            script.enabled = change.enabled
        if "secrets" in change.model_fields_set:
            await _require_secrets(session, owner.workspace, change.secrets)
            script.secrets = _references(change.secrets)
        if change.position is not None:
            scripts = await init_scripts.of_owner(session, owner.owner_id)
            others = [one for one in scripts if one.script_id != script.script_id]
            init_scripts.place(others, script, change.position)


async def _owner(session: AsyncSession, request: web.Request) -> _Owner:
    workspace = await the_workspace(session, request.match_info["workspace"])
    address = request.match_info.get("cluster")
    return _Owner(workspace, None if address is None else await the_cluster(session, workspace, address))


async def _found(session: AsyncSession, request: web.Request) -> tuple[_Owner, InitScript]:
    owner = await _owner(session, request)
    script = await init_scripts.find(session, owner.owner_id, request.match_info["script_id"])
    if script is None:
        raise owner.no_such_script()
    return owner, script


async def _require_secrets(session: AsyncSession, workspace: Workspace, references: SecretReferences | None) -> None:
    """Refuse references to secrets that do not exist; whether a node is granted them shows when it asks for them."""
    names = names_in(_references(references))
    found = await secrets.find_named(session, workspace.workspace_id, [(name.scope, name.key) for name in names])
    if len(found) < len(names):
        raise no_such_secret(workspace.workspace, field="secrets")


def _references(references: SecretReferences | None) -> dict[str, Any] | None:
    return None if references is None else references.model_dump(exclude_defaults=True)


def _record(body: NewInitScript, owner: _Owner, actor: str, now_ms: int) -> InitScript:
    content = base64.b64decode(body.script)
    return InitScript(
        script_id=new_id("is"),
        workspace_id=owner.workspace.workspace_id,
        cluster_id=owner.cluster.cluster_id if owner.cluster is not None else None,
        owner_id=owner.owner_id,
        name=body.name,
        position=-1,
        enabled=body.enabled,
        content=content,
        sha256=hashlib.sha256(content).hexdigest(),
        secrets=_references(body.secrets),
        created_at=now_ms,
        created_by=actor,
        updated_at=now_ms,
        updated_by=actor,
    )


def _is_same(known: InitScript, body: NewInitScript, *, end: int) -> bool:
    """Whether a creation asks for what exists; `end` is the last position, which all positions beyond it mean."""
    wanted = (base64.b64decode(body.script), body.enabled, _references(body.secrets))
    is_there = body.position is None or min(body.position, end) == known.position
    return wanted == (known.content, known.enabled, known.secrets) and is_there


def _state(script: InitScript) -> tuple[Any, ...]:
    return script.name, script.sha256, script.enabled, script.position, script.secrets


def _happening(action: str, owner: _Owner, script: InitScript) -> Happening:
    details: dict[str, Any] = {
        "script_id": script.script_id,
        "sha256": script.sha256,
        "position": script.position,
        "enabled": script.enabled,
    }
    if script.secrets is not None:
        details["secrets"] = [str(name) for name in names_in(script.secrets)]
    if owner.cluster is not None:
        details |= {"cluster": owner.cluster.cluster, "cluster_id": owner.cluster.cluster_id}
    return Happening(action, "ok", script.name, owner.workspace.workspace_id, details)


def _view(script: InitScript) -> dict[str, Any]:
    view = {
        "script_id": script.script_id,
        "name": script.name,
        "position": script.position,
        "enabled": script.enabled,
        "sha256": script.sha256,
        "cluster_id": script.cluster_id,
        "secrets": script.secrets,
        "created_at": script.created_at,
        "created_by": script.created_by,
        "updated_at": script.updated_at,
        "updated_by": script.updated_by,
    }
    return {name: value for name, value in view.items() if value is not None}
