"""What every sub-command that calls the control plane shares: its options, the client, and the event loop."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from certs.errors import CertificateError
from trunkline.cli.connection import Connection, find_connection
from trunkline.cli.exits import CommandFailed
from trunkline.client.control_plane import ControlPlane
from trunkline.client.workspace import WorkspaceApi

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Session:
    """The client of one invocation."""

    control_plane: ControlPlane
    workspace: WorkspaceApi


@dataclass(frozen=True, slots=True)
class Invocation:
    """The options that all sub-commands share; `call` runs what the sub-command does."""

    state: Path | None
    workspace: str | None
    output: str

    def connection(self) -> Connection:
        """Where the control plane is, raising CommandFailed if nothing says so."""
        return find_connection(self.state, os.environ, Path.cwd())

    def call(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Run `work` with a client to the control plane, on an event loop of its own."""
        connection = self.connection()

        async def connected() -> T:
            async with _control_plane(connection) as control_plane:
                return await work(
                    Session(control_plane, control_plane.workspace(self.workspace or connection.workspace))
                )

        with asyncio.Runner() as runner:
            return runner.run(connected())

    def collect(self, listing: Callable[[Session], AsyncIterator[T]]) -> list[T]:
        """Every entry of a listing."""

        async def gather(session: Session) -> list[T]:
            return [entry async for entry in listing(session)]

        return self.call(gather)


def connected(command: Command) -> Command:
    """Give a sub-command the shared options, and the `Invocation` as its first argument."""

    @click.option("--state", type=click.Path(path_type=Path), metavar="DIR", help="Use the sandbox in DIR.")
    @click.option("--workspace", "-w", metavar="NAME", help="The workspace, if not the configured one.")
    @click.option("--output", "-o", type=click.Choice(["table", "json"]), default="table", help="How to print results.")
    @click.pass_context
    @functools.wraps(command)
    def wrapped(
        context: click.Context, *arguments: Any, state: Path | None, workspace: str | None, output: str, **options: Any
    ) -> Any:
        invocation = Invocation(state or context.find_root().obj, workspace, output)
        return command(invocation, *arguments, **options)

    return wrapped  # type: ignore[return-value]  # click replaces the callable, the command's author sees the same one


def _control_plane(connection: Connection) -> ControlPlane:
    try:
        return ControlPlane(connection.control_plane_url, connection.token, ca_file=connection.ca_file)
    except (CertificateError, ValueError) as error:
        raise CommandFailed(str(error), os.EX_CONFIG) from None
