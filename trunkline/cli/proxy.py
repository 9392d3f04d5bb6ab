"""`trunkline proxy`: a plain local HTTP proxy to the nodes of a workspace, which adds the tokens."""

from __future__ import annotations

import click

from trunkline.cli.examples import examples
from trunkline.cli.local_port import LOOPBACK, local_port_option, serve_local_port
from trunkline.cli.local_proxy import LocalProxy
from trunkline.cli.output import say
from trunkline.cli.session import Invocation, Session, connected_stream


@click.command("proxy", epilog=examples("proxy --local 8118"))
@local_port_option
@click.option("--suffix", default="trunk.internal", show_default=True, help="The suffix of the nodes' names.")
@connected_stream
def proxy(invocation: Invocation, local_port: int, suffix: str) -> None:
    """Run an HTTP proxy on 127.0.0.1 for the nodes of the workspace; Ctrl-C ends it.

    Programs use it as `http_proxy` for names such as vm-1.main.trunk.internal; it takes absolute-form and CONNECT, adds
    a token for each node and port, and goes nowhere else. Only connections of the user who runs it are served.
    """

    async def work(session: Session) -> None:
        workspace = await session.control_plane.account.get_workspace(session.workspace.name)
        local_proxy = LocalProxy(session.control_plane, workspace.workspace, suffix)

        def announce(bound_port: int) -> None:
            say(f"http://{LOOPBACK}:{bound_port} is a proxy to *.{workspace.workspace}.{suffix}")

        await serve_local_port(local_port, local_proxy.serve, announce)

    invocation.call(work)
