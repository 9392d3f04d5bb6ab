"""A local port on 127.0.0.1 that serves the user who opened it, until that user ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable

import click

from trunkline.cli.arguments import LARGEST_PORT
from trunkline.cli.ending_signals import ending_signals
from trunkline.cli.exits import CommandFailed, line_of
from trunkline.cli.joining import break_off, close
from trunkline.cli.peer_owner import is_own_peer
from trunkline.client.errors import TrunklineError

LOOPBACK = "127.0.0.1"
MOST_CONNECTIONS = 512

local_port_option = click.option(
    "--local",
    "local_port",
    metavar="PORT",
    type=click.IntRange(0, LARGEST_PORT),
    default=0,
    help="The local port (default: any).",
)
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def serve_local_port(port: int, serve: Serve, announce: Callable[[int], None]) -> None:
    """Serve each connection to a local port, until a signal asks for the end.

    Args:
        port: to listen on; 0 lets the system pick one.
        serve: handles one connection; errors of the SDK are reported in one line and end that connection only.
        announce: is told the port once it is open.

    Raises:
        CommandFailed: the port cannot be opened.
    """
    connections: set[asyncio.Task[None]] = set()

    # Not a coroutine function: streams would log the traceback of each connection that is cancelled at the end.
    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(_guarded(serve, reader, writer, room=len(connections) < MOST_CONNECTIONS))
        connections.add(task)
        task.add_done_callback(connections.discard)

    try:
        server = await asyncio.start_server(connected, LOOPBACK, port)
    except OSError as error:
        raise CommandFailed(f"port {port} cannot be opened: {error.strerror}", os.EX_UNAVAILABLE) from None
    announce(server.sockets[0].getsockname()[1])
    try:
        await _until_interrupted()
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _guarded(serve: Serve, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, room: bool) -> None:
    try:
        if not await is_own_peer(writer.transport):
            click.echo("trunkline: refused a connection of another user, or one that was closed at once", err=True)
        elif room:
            await serve(reader, writer)
        else:
            break_off(writer)
            click.echo(f"trunkline: refused a connection: {MOST_CONNECTIONS} are open already", err=True)
    except TrunklineError as error:
        break_off(writer)  # it would take a clean end for all that there is
        click.echo(f"trunkline: {line_of(error)}", err=True)
    except (OSError, asyncio.IncompleteReadError):
        pass  # the local program has gone
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await close(writer)


async def _until_interrupted() -> None:
    loop = asyncio.get_running_loop()
    interrupted = asyncio.Event()
    numbers = ending_signals()
    for number in numbers:
        loop.add_signal_handler(number, interrupted.set)
    try:
        await interrupted.wait()
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
