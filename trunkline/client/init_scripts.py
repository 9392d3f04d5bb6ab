"""Init scripts: what new nodes run before they take commands; those of a workspace, or of one cluster."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from typing import Any

from trunkline.client.api_transport import ApiTransport, path_of
from trunkline.client.errors import BadResponse
from trunkline.client.pages import read_pages, read_record
from trunkline.client.records.init_scripts import InitScript

Secrets = Mapping[str, Mapping[str, str]]


class InitScriptApi:
    """The init scripts of one workspace, or of one of its clusters; a script goes by its id or name."""

    def __init__(self, transport: ApiTransport, workspace: str, cluster: str | None = None) -> None:
        self._transport = transport
        self._segments = ("global-init-scripts",) if cluster is None else ("clusters", cluster, "init-scripts")
        self._workspace = workspace

    async def create(
        self,
        name: str,
        script: bytes,
        *,
        enabled: bool = False,
        position: int | None = None,
        secrets: Secrets | None = None,
    ) -> InitScript:
        """Create a script; one that exists with the same content is the result.

        Args:
            name: its name.
            script: its content, 64 KiB at most; what its first line names runs it, else bash.
            enabled: whether new nodes run it.
            position: its place, from 0; those from there on move by one. The end, unless told otherwise.
            secrets: ``{"environment": {NAME: "scope/key"}, "files": {name: "scope/key"}}``.
        """
        document: dict[str, Any] = {"name": name, "script": _encoded(script), "enabled": enabled}
        document |= {"position": position} if position is not None else {}
        document |= {"secrets": secrets} if secrets else {}
        return read_record(InitScript, await self._transport.call("POST", self._path(), document=document))

    async def list(self) -> AsyncIterator[InitScript]:
        """The scripts in the order in which they run, without their content."""
        async for script in read_pages(self._transport, self._path(), "scripts", InitScript):
            yield script

    async def get(self, script: str) -> InitScript:
        """One script with its content."""
        return read_record(InitScript, await self._transport.call("GET", self._path(script)))

    async def update(
        self,
        script: str,
        *,
        name: str | None = None,
        content: bytes | None = None,
        enabled: bool | None = None,
        position: int | None = None,
        secrets: Secrets | None = None,
    ) -> InitScript:
        """Change what is given; nodes that have run the script already are not touched.

        `secrets` take the place of all that the script had; an empty mapping leaves it none.
        """
        change = {
            "name": name,
            "script": _encoded(content) if content is not None else None,
            "enabled": enabled,
            "position": position,
        }
        document: dict[str, Any] = {field: value for field, value in change.items() if value is not None}
        document |= {"secrets": secrets or None} if secrets is not None else {}
        answer = await self._transport.call("PATCH", self._path(script), document=document)
        return read_record(InitScript, answer)

    async def delete(self, script: str) -> None:
        """Delete a script; those behind it move up."""
        await self._transport.call("DELETE", self._path(script))

    def _path(self, *segments: str) -> str:
        return path_of("w", self._workspace, "api", "2.0", *self._segments, *segments)


def content_of(script: InitScript) -> bytes:
    """The content of a script that was asked for by itself.

    Raises:
        BadResponse: it is not in the form that every release sends.
    """
    try:
        return base64.b64decode(script.script or "")
    except ValueError:
        raise BadResponse("the control plane's init script could not be read by this release") from None


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
