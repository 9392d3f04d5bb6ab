"""One node, called through a relay: its health, its commands, and connections to its ports."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from trunkline.client.api_transport import path_of
from trunkline.client.call_tokens import CallTokens
from trunkline.client.command_input import InputPart, InputSender
from trunkline.client.command_output import OutputStream
from trunkline.client.commands import CommandRequest
from trunkline.client.errors import NodeUnreachable, TrunklineError, Unauthenticated
from trunkline.client.exchange import IDEMPOTENT_METHODS
from trunkline.client.node_response import NodeResponse, read_error
from trunkline.client.node_sender import HEAD_TIMEOUT_SECONDS, Body, Fields, NodeSender
from trunkline.client.pages import read_record
from trunkline.client.records.commands import Command, InputStanding
from trunkline.client.records.nodes import NodeHealth, NodePolicy
from trunkline.client.records.tokens import AccessToken
from trunkline.client.relays import Relays
from trunkline.client.resumption import RESUME_SECONDS
from trunkline.client.routing import Route
from trunkline.client.workspace import WorkspaceApi

T = TypeVar("T")
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

AGENT_PORT = 80
SUBMIT, READ, HEALTH, METRICS = "command:submit", "command:read", "health:read", "metrics:read"
SHELL = "shell:open"
FILE_READ, FILE_WRITE = "file:read", "file:write"


def scopes_of_port(port: int) -> tuple[str, ...]:
    """The scopes that open a port of a node: everything on the agent's own, else the port itself."""
    return (SUBMIT, READ, HEALTH, METRICS) if port == AGENT_PORT else (f"port:{port}",)


class Node:
    """Calls to one node; the tokens they need are got from the control plane and kept until they near their end.

    What is submitted here goes to the node directly and is not in the control plane's list of commands: for those see
    `WorkspaceApi.commands`.

    Attributes:
        name: the node's name or id, as given.
    """

    def __init__(self, workspace: WorkspaceApi, name: str, relays: Relays) -> None:
        self.name = name
        self._route = Route(relays)
        self._tokens = CallTokens(workspace, name)

    async def request(
        self, method: str, path: str, *, port: int = AGENT_PORT, scopes: tuple[str, ...] = (), fields: Fields = (),
        body: Body = None, timeout_seconds: float | None = HEAD_TIMEOUT_SECONDS,
    ) -> NodeResponse:  # fmt: skip
        """Make one HTTP call to a port of the node; `scopes` default to what opens that port.

        `timeout_seconds` is the bound for the link, the request and the head of the answer together; None has none. A
        call whose token is not accepted is made once more with a new one, where it may be.

        Raises:
            TrunklineError: as `NodeSender.request`; and as the control plane's API, for the token.
        """
        whole = body is None or isinstance(body, bytes)  # pieces once taken cannot be had again

        async def call(token: AccessToken) -> NodeResponse:
            authority = _authority(token, port)

            async def request(sender: NodeSender) -> NodeResponse:
                return await sender.request(
                    method, authority, path, token=token.token, fields=fields, body=body,
                    timeout_seconds=timeout_seconds,
                )  # fmt: skip

            if whole:
                return await self._route.call(token, request)
            return await request(await self._route.linked(token))

        repeatable = whole and method.encode() in IDEMPOTENT_METHODS
        return await self._with_token(scopes or scopes_of_port(port), call, repeatable=repeatable)

    async def open_connection(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open raw bytes to a port of the node; raises as `NodeSender.open_connection`."""

        async def call(token: AccessToken) -> Connection:
            host = _host(token)
            return await self._route.call(token, lambda sender: sender.open_connection(host, port, token=token.token))

        return await self._with_token(scopes_of_port(port), call, repeatable=True)

    async def open_upgraded(
        self, path: str, protocol: bytes, *, scopes: tuple[str, ...]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open raw bytes to the agent by an upgrade of a path of its API; raises as `NodeSender.open_upgraded`."""

        async def call(token: AccessToken) -> Connection:
            host = _host(token)
            return await self._route.call(
                token, lambda sender: sender.open_upgraded(host, path, protocol, token=token.token)
            )

        return await self._with_token(scopes, call, repeatable=True)

    async def prepare(self, port: int) -> None:
        """Get the token for a port and open a link now, so that what is wrong with them shows before they are used.

        Raises:
            TrunklineError: the control plane gives no token, or no relay can be reached.
        """
        await self._with_token(scopes_of_port(port), self._route.linked, repeatable=True)

    async def health(self) -> NodeHealth:
        """The node's own view of its health."""
        return read_record(NodeHealth, await self._json("GET", path_of("v1", "health"), HEALTH))

    async def policy(self) -> NodePolicy:
        """What the node's owner allows."""
        return read_record(NodePolicy, await self._json("GET", path_of("v1", "policy"), READ))

    async def metrics(self) -> str:
        """The agent's metrics in Prometheus's text form."""
        response = await self.request("GET", path_of("v1", "metrics"), scopes=(METRICS,))
        return (await _read_good(response)).decode("utf-8", "replace")

    async def submit(self, request: CommandRequest) -> Command:
        """Submit a command to the node itself; its id makes a repeated submission harmless."""
        document = request.document()
        path = path_of("v1", "commands", document.pop("command_id"))
        return read_record(Command, await self._json("PUT", path, SUBMIT, document))

    async def command(self, command_id: str) -> Command:
        """One command of the node."""
        return read_record(Command, await self._json("GET", path_of("v1", "commands", command_id), READ))

    async def cancel(self, command_id: str) -> Command:
        """Ask for a command's end."""
        path = path_of("v1", "commands", command_id, "cancel")
        return read_record(Command, await self._json("POST", path, SUBMIT, {}))

    async def send_input(
        self, command_id: str, pieces: AsyncIterable[bytes], *, patience_seconds: float | None = RESUME_SECONDS
    ) -> InputStanding:
        """Bring a command that was submitted here its standard input; as `CommandApi.send_input`."""

        async def put(part: InputPart) -> InputStanding:
            query = f"?offset={part.offset}&end={'true' if part.last else 'false'}"
            path = path_of("v1", "commands", command_id, "stdin") + query
            response = await self.request("PUT", path, scopes=(SUBMIT,), body=part.content)
            return read_record(InputStanding, await _read_good_json(response))

        return await InputSender(put, patience_seconds=patience_seconds).send(pieces)

    async def output(
        self, command_id: str, stream: OutputStream = "stdout", *, offset: int = 0, follow: bool = False
    ) -> AsyncIterator[bytes]:
        """A command's output from `offset` bytes on, and with `follow` until the command has ended.

        An interruption is raised; whoever counts what came can go on from there with `offset`.
        """
        query = f"?stream={stream}&offset={offset}" + ("&follow=true" if follow else "")
        path = path_of("v1", "commands", command_id, "output") + query
        async with await self.request("GET", path, scopes=(READ,)) as response:
            if response.status >= 300:
                raise await read_error(response, "the node answered")
            async for piece in response:
                yield piece

    async def _with_token(
        self, scopes: tuple[str, ...], call: Callable[[AccessToken], Awaitable[T]], *, repeatable: bool
    ) -> T:
        """Make a call with a token; one that is not accepted, since its key was revoked say, is not used again.

        The call is then made once more, with a new one. What a relay cuts because of its token it answers as what it
        does not admit: so a call that may not be made twice is made again only where it was certainly never sent.
        """
        token = await self._tokens.get(*scopes)
        try:
            return await call(token)
        except Unauthenticated as error:
            self._tokens.forget()
            if not (repeatable or error.never_sent):
                raise
            refused = error
        try:
            token = await self._tokens.get(*scopes)
        except TrunklineError:
            raise refused from None
        return await call(token)

    async def _json(self, method: str, path: str, scope: str, document: dict[str, Any] | None = None) -> Any:
        body = None if document is None else json.dumps(document).encode()
        fields = () if body is None else (("Content-Type", "application/json"),)
        response = await self.request(method, path, scopes=(scope,), fields=fields, body=body)
        return await _read_good_json(response)


def _host(token: AccessToken) -> str:
    if not token.host:
        raise NodeUnreachable(0, "", "", "the control plane did not name the node's host", retry=False)
    return token.host


def _authority(token: AccessToken, port: int) -> str:
    return _host(token) if port == AGENT_PORT else f"{_host(token)}:{port}"


async def _read_good_json(response: NodeResponse) -> Any:
    if response.status >= 300:
        raise await read_error(response, "the node answered")
    return await response.json()


async def _read_good(response: NodeResponse) -> bytes:
    if response.status >= 300:
        raise await read_error(response, "the node answered")
    return await response.read()
