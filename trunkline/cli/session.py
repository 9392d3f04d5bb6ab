"""What every sub-command that calls the control plane shares: its options, the client, and the event loop."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from certs.errors import CertificateError
from certs.tls_policy import anonymous_client_context
from trunkline.cli.connection import Connection, find_connection
from trunkline.cli.exits import CommandFailed
from trunkline.client.api_transport import ApiTransport
from trunkline.client.commands import CommandApi
from trunkline.client.submissions import SubmissionApi
from trunkline.runtime.secret import Secret

if TYPE_CHECKING:
    from trunkline.client.control_plane import ControlPlane
    from trunkline.client.workspace import WorkspaceApi

R = TypeVar("R")
T = TypeVar("T")

_STATE = click.option("--state", type=click.Path(path_type=Path), metavar="DIR", help="Use the sandbox in DIR.")
_WORKSPACE = click.option("--workspace", "-w", metavar="NAME", help="The workspace, if not the configured one.")
_OUTPUT = click.option(
    "--output", "-o", type=click.Choice(["table", "json"]), default="table", help="How to print results."
)


class Session:
    """The client of one invocation.

    What reaches nodes is imported where it is asked for, which takes as long as everything else together, and so is
    what of the workspace is more than its commands.

    Attributes:
        commands: the commands of the workspace.
        submissions: what was submitted as a whole.
    """

    def __init__(self, connection: Connection, workspace: str) -> None:
        """Make a client that has no connection yet.

        Raises:
            CommandFailed: what says where the control plane is is not usable.
        """
        self._connection = connection
        try:
            self._ssl_context = anonymous_client_context(connection.ca_file)
            token = Secret(connection.token)
            self._transport = ApiTransport(connection.control_plane_url, token, ssl_context=self._ssl_context)
        except (CertificateError, ValueError) as error:
            raise CommandFailed(str(error), os.EX_CONFIG) from None
        self._whole: ControlPlane | None = None
        self._workspace = workspace
        self.commands = CommandApi(self._transport, workspace)
        self.submissions = SubmissionApi(self._transport, workspace)

    @functools.cached_property
    def workspace(self) -> WorkspaceApi:
        """All of the workspace."""
        from trunkline.client.workspace import WorkspaceApi

        return WorkspaceApi(self._transport, self._workspace)

    @property
    def control_plane(self) -> ControlPlane:
        """The whole of the SDK."""
        if self._whole is None:
            from trunkline.client.control_plane import ControlPlane

            connection = self._connection
            self._whole = ControlPlane(connection.control_plane_url, connection.token, ssl_context=self._ssl_context)
        return self._whole

    async def close(self) -> None:
        """Close every link and connection."""
        if self._whole is not None:
            await self._whole.close()
        await self._transport.close()


@dataclass(frozen=True, slots=True)
class Invocation:
    """The options that all sub-commands share; `call` runs what the sub-command does."""

    state: Path | None
    workspace: str | None
    output: str

    def call(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Run `work` with a client to the control plane, on an event loop of its own.

        Raises:
            CommandFailed: nothing says where the control plane is, or what says so is not usable.
        """
        connection = find_connection(self.state, os.environ, Path())
        workspace = self.workspace or connection.workspace

        async def run() -> T:
            session = Session(connection, workspace)
            try:
                return await work(session)
            finally:
                await session.close()

        with asyncio.Runner() as runner:
            return runner.run(run())

    def collect(self, listing: Callable[[Session], AsyncIterator[T]]) -> list[T]:
        """Every entry of a listing; raises as `call`."""

        async def gather(session: Session) -> list[T]:
            return [entry async for entry in listing(session)]

        return self.call(gather)


def connected(command: Callable[..., R]) -> Callable[..., R]:
    """Give a sub-command the shared options, and the `Invocation` as its first argument."""
    return _OUTPUT(connected_stream(command))


def connected_stream(command: Callable[..., R]) -> Callable[..., R]:
    """As `connected`, for sub-commands that print no results of the API."""

    def wrapped(context: click.Context, /, *arguments: Any, **options: Any) -> R:
        state = options.pop("state") or context.find_root().obj
        invocation = Invocation(state, options.pop("workspace"), options.pop("output", "table"))
        return command(invocation, *arguments, **options)

    return _STATE(_WORKSPACE(functools.update_wrapper(click.pass_context(wrapped), command)))
