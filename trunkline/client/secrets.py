"""The workspace's secrets: scopes, values that go in and never come out, grants, adoption."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

from trunkline.client.api_transport import ApiTransport, path_of
from trunkline.client.commands import Target
from trunkline.client.pages import read_pages, read_record, whole_pages
from trunkline.client.records.secrets import (
    AdoptedSecret,
    SecretAdoption,
    SecretGrant,
    SecretScope,
    WorkspaceSecret,
)


class SecretApi:
    """The secrets of one workspace."""

    def __init__(self, transport: ApiTransport, workspace: str) -> None:
        self._transport = transport
        self._workspace = workspace

    async def create_scope(self, scope: str) -> SecretScope:
        """Create a scope that is granted to nobody; if there is one of that name already, that is the result."""
        return read_record(SecretScope, await self._post({"scope": scope}, "scopes", "create"))

    async def list_scopes(self) -> AsyncIterator[SecretScope]:
        """Every scope."""
        async for scope in read_pages(self._transport, self._path("scopes", "list"), "scopes", SecretScope):
            yield scope

    async def delete_scope(self, scope: str) -> None:
        """Delete a scope with its secrets and grants."""
        await self._post({"scope": scope}, "scopes", "delete")

    async def put(self, scope: str, key: str, value: bytes) -> int:
        """Store a value of 1 byte to 128 KiB; returns the version, which grows unless the value is the same."""
        document = {"scope": scope, "key": key, "bytes_value": base64.b64encode(value).decode("ascii")}
        return int((await self._post(document, "put")).get("version", 0))

    async def delete(self, scope: str, key: str) -> None:
        """Delete a secret."""
        await self._post({"scope": scope, "key": key}, "delete")

    async def list(self, scope: str) -> AsyncIterator[WorkspaceSecret]:
        """The secrets of a scope, without their values."""
        query = {"scope": scope}
        async for secret in read_pages(self._transport, self._path("list"), "secrets", WorkspaceSecret, query):
            yield secret

    async def grant(self, scope: str, target: Target) -> SecretGrant:
        """Let the nodes of the target be given the scope's secrets."""
        document = {"scope": scope, "target": target.document()}
        return read_record(SecretGrant, await self._post(document, "grants", "put"))

    async def ungrant(self, scope: str, target: Target) -> None:
        """Take a grant back, named as it was given."""
        await self._post({"scope": scope, "target": target.document()}, "grants", "delete")

    async def list_grants(self, scope: str) -> AsyncIterator[SecretGrant]:
        """The grants of a scope."""
        query = {"scope": scope}
        async for grant in read_pages(self._transport, self._path("grants", "list"), "grants", SecretGrant, query):
            yield grant

    async def adoption(self, scope: str, key: str) -> AsyncIterator[AdoptedSecret]:
        """The nodes that are granted a secret, or still hold it, with the version that each has."""
        query = {"scope": scope, "key": key}
        async for node in read_pages(self._transport, self._path("adoption"), "nodes", AdoptedSecret, query):
            yield node

    async def whole_adoption(self, scope: str, key: str) -> SecretAdoption:
        """The version that nodes are to hold of a secret, with all of `adoption`."""
        adoption: dict[str, Any] = {"nodes": []}
        async for page in whole_pages(self._transport, self._path("adoption"), "nodes", {"scope": scope, "key": key}):
            adoption = {**page, "nodes": adoption["nodes"] + page["nodes"]}
        return read_record(SecretAdoption, adoption)

    async def _post(self, document: dict[str, Any], *segments: str) -> dict[str, Any]:
        return await self._transport.call("POST", self._path(*segments), document=document)

    def _path(self, *segments: str) -> str:
        return path_of("w", self._workspace, "api", "2.0", "secrets", *segments)
