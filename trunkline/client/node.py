"""One node, called through a relay: its health, its commands, and connections to its ports."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any

from trunkline.client.api_transport import path_of
from trunkline.client.call_tokens import CallTokens
from trunkline.client.command_input import InputPart, InputSender
from trunkline.client.command_output import OutputStream
from trunkline.client.commands import CommandRequest
from trunkline.client.errors import NodeUnreachable, Unauthenticated
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

        `timeout_seconds` is the bound for the link, the request and the head of the answer together; None has none.

        Raises:
            TrunklineError: as `NodeSender.request`; and as the control plane's API, for the token.
        """
        token = await self._tokens.get(*(scopes or scopes_of_port(port)))
        authority = _authority(token, port)

        async def request(sender: NodeSender) -> NodeResponse:
            return await sender.request(
                method, authority, path, token=token.token, fields=fields, body=body, timeout_seconds=timeout_seconds
            )

        with self._token_judged():
            if body is None or isinstance(body, bytes):
                return await self._route.call(token, request)
            return await request(await self._route.linked(token))  # pieces once taken cannot be had again

    async def open_connection(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open raw bytes to a port of the node; raises as `NodeSender.open_connection`."""
        token = await self._tokens.get(*scopes_of_port(port))
        host = _host(token)
        with self._token_judged():
            return await self._route.call(token, lambda sender: sender.open_connection(host, port, token=token.token))

    async def open_upgraded(
        self, path: str, protocol: bytes, *, scopes: tuple[str, ...]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open raw bytes to the agent by an upgrade of a path of its API; raises as `NodeSender.open_upgraded`."""
        token = await self._tokens.get(*scopes)
        host = _host(token)
        with self._token_judged():
            return await self._route.call(
                token, lambda sender: sender.open_upgraded(host, path, protocol, token=token.token)
            )

    async def prepare(self, port: int) -> None:
        """Get the token for a port and open a link now, so that what is wrong with them shows before they are used.

        Raises:
            TrunklineError: the control plane gives no token, or no relay can be reached.
        """
        token = await self._tokens.get(*scopes_of_port(port))
        with self._token_judged():
            await self._route.linked(token)

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

    @contextlib.contextmanager
    def _token_judged(self) -> Iterator[None]:
        """Inside the block a token is used: one that is not accepted, since it was revoked say, is not used again."""
        try:
            yield
        except Unauthenticated:
            self._tokens.forget()
            raise

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
