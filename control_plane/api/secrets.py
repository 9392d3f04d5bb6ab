"""`/w/{workspace}/api/2.0/secrets`: put, delete, list. A value goes in and is never given out to an operator again."""

import base64
import binascii
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field, StringConstraints, model_validator

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext, check_account, the_workspace
from control_plane.api.pages import LARGEST_PAGE_SIZE, PageQuery
from control_plane.api.requests import Nothing, OperatorRequest, read_body, read_query
from control_plane.api.responses import json_response
from control_plane.api.secret_scopes import ScopeName, scrub, the_scope
from control_plane.errors import ApiError, ErrorCode
from control_plane.fleet.secret_notices import SecretNotices
from control_plane.secrets.key_encryption import KeyEncryptionError
from control_plane.secrets.references import KEY_PATTERN, SecretName, no_such_secret
from control_plane.secrets.rotation import KeyRotation
from control_plane.secrets.vault import LARGEST_VALUE_BYTES, MOST_SECRETS, SecretVault
from control_plane.storage import secrets
from control_plane.storage.audit import Happening, append
from control_plane.storage.records.secrets import WorkspaceSecret

PATH = "/w/{workspace}/api/2.0/secrets"
ROTATE_PATH = "/api/2.0/accounts/{account}/secrets/rotate-key"

KeyName = Annotated[str, StringConstraints(pattern=KEY_PATTERN)]


class SecretBody(OperatorRequest):
    """The body of a deletion."""

    scope: ScopeName
    key: KeyName


class NewValue(SecretBody):
    """The body of a put; the value is text, or bytes in base64."""

    string_value: str | None = Field(default=None, repr=False)
    bytes_value: str | None = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _one_value(self) -> "NewValue":
        if (self.string_value is None) == (self.bytes_value is None):
            raise ValueError("give exactly one of string_value and bytes_value")
        if not 0 < len(self.value()) <= LARGEST_VALUE_BYTES:
            raise ValueError(f"a value has 1 to {LARGEST_VALUE_BYTES} bytes")
        return self

    def value(self) -> bytes:
        """Return the bytes of the value."""
        if self.string_value is not None:
            return self.string_value.encode("utf-8", "strict")
        try:
            return base64.b64decode(self.bytes_value or "", validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("bytes_value must be base64") from None


class SecretQuery(PageQuery):
    """Which scope to list, as a whole unless smaller pages are asked for: clients of Databricks know no pages here."""

    scope: ScopeName
    page_size: int = Field(default=MOST_SECRETS, ge=1, le=LARGEST_PAGE_SIZE)


class SecretResource:
    """Secrets as operators see them."""

    def __init__(self, context: ApiContext, vault: SecretVault, rotation: KeyRotation, notices: SecretNotices) -> None:
        self._context = context
        self._vault = vault
        self._rotation = rotation
        self._notices = notices

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("POST", PATH + "/put", Role.OPERATOR, self.put),
            Route("POST", PATH + "/delete", Role.OPERATOR, self.delete),
            Route("GET", PATH + "/list", Role.OPERATOR, self.list, query=True),
            Route("POST", ROTATE_PATH, Role.OPERATOR, self.rotate_key),
        ]

    async def put(self, request: web.Request, caller: Caller) -> web.Response:
        """Store a value as the secret's next version; the value that it has already changes nothing."""
        body = await read_body(request, NewValue)
        now = self._context.clock.now()
        async with self._context.database.write() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            await the_scope(session, workspace, body.scope)
            name = SecretName(body.scope, body.key)
            put = await self._vault.put(
                session,
                workspace.workspace_id,
                name,
                body.value(),
                now_ms=int(now * 1000),
                actor=caller.actor.name,
            )
            details = {"version": put.version, "changed": put.new}
            happening = Happening("secret.put", "ok", str(name), workspace.workspace_id, details)
            append(session, now, caller.actor, happening)
        self._notices.look_again()
        return json_response({"version": put.version})

    async def delete(self, request: web.Request, caller: Caller) -> web.Response:
        """Delete a secret; nodes drop it, and nothing of it stays in the files."""
        body = await read_body(request, SecretBody)
        name = SecretName(body.scope, body.key)
        async with self._context.database.write() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            secret = await secrets.find(session, workspace.workspace_id, body.scope, body.key)
            if secret is None:
                raise no_such_secret(workspace.workspace)
            await secrets.remove(session, secret)
            happening = Happening("secret.delete", "ok", str(name), workspace.workspace_id, {"version": secret.version})
            append(session, self._context.clock.now(), caller.actor, happening)
        self._notices.look_again()
        await scrub(self._context)
        return json_response({})

    async def list(self, request: web.Request, caller: Caller) -> web.Response:
        """List the secrets of a scope by key, never their values."""
        query = read_query(request, SecretQuery)
        asked = self._context.pages.asked_for(request.path, query)
        async with self._context.database.read() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            await the_scope(session, workspace, query.scope)
            rows = await secrets.list_page(
                session, workspace.workspace_id, query.scope, after=asked.after(str), most=asked.most_rows
            )
        page, next_page = asked.cut(rows, lambda row: (row.key,))
        return json_response({"secrets": [_view(row) for row in page]} | next_page)

    async def rotate_key(self, request: web.Request, caller: Caller) -> web.Response:
        """Replace the key-encryption key, and wrap every workspace's data key with the new one."""
        check_account(self._context, request)
        await read_body(request, Nothing)
        try:
            key_id, workspaces = await self._rotation.rotate(caller.actor)
        except KeyEncryptionError as error:
            raise ApiError(ErrorCode.INTERNAL_ERROR, str(error)) from None
        await scrub(self._context)
        return json_response({"key_id": key_id, "workspaces": workspaces})


def _view(secret: WorkspaceSecret) -> dict[str, Any]:
    return {
        "key": secret.key,
        "last_updated_timestamp": secret.update_time,
        "version": secret.version,
        "size_bytes": secret.size_bytes,
        "updated_by": secret.updated_by,
    }
