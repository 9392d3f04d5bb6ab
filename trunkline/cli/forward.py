"""`trunkline forward`: a local port that leads to a port of a node."""

from __future__ import annotations

import asyncio

import click

from trunkline.cli.arguments import node_and_port
from trunkline.cli.examples import examples
from trunkline.cli.joining import join
from trunkline.cli.local_port import LOOPBACK, local_port_option, serve_local_port
from trunkline.cli.session import Invocation, Session, connected_stream


@click.command("forward", epilog=examples("forward vm-1:5432 --local 15432"))
@click.argument("destination", metavar="NODE:PORT")
@local_port_option
@connected_stream
def forward(invocation: Invocation, destination: str, local_port: int) -> None:
    """Open a port on 127.0.0.1 that leads to PORT on NODE's loopback; Ctrl-C ends it.

    Only connections of the user who runs this are served. The node's owner must allow the port.
    """
    name, port = node_and_port(destination)

    async def work(session: Session) -> None:
        node = session.control_plane.node(session.workspace.name, name)
        await node.prepare(port)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await join(reader, writer, *await node.open_connection(port))

        def announce(bound_port: int) -> None:
            click.echo(f"{LOOPBACK}:{bound_port} leads to {name}:{port}")

        await serve_local_port(local_port, serve, announce)

    invocation.call(work)
