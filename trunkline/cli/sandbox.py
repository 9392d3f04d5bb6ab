"""`trunkline up` and `trunkline down`: a whole installation on this machine, for development only."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import click

from trunkline.cli.arguments import LARGEST_PORT
from trunkline.cli.connection import SANDBOX_DIRECTORY
from trunkline.cli.examples import examples
from trunkline.cli.exits import CommandFailed
from trunkline.runtime.loading import loading
from trunkline.sandbox.daemon import SandboxFailed
from trunkline.sandbox.description import SandboxDescription, read_description
from trunkline.sandbox.detached import start_detached
from trunkline.sandbox.installed import missing_package
from trunkline.sandbox.layout import Layout
from trunkline.sandbox.plan import DEFAULT_PORTS, SandboxPlan
from trunkline.sandbox.running import AlreadyRunning, stop_leftovers, stop_sandbox, supervision

MOST_NODES = 64
MOST_RELAYS = 8
_STATE = click.option(
    "--state", type=click.Path(path_type=Path), metavar="DIR", help="The sandbox's directory (default: ./.trunkline)."
)


@click.command("up", epilog=examples("up --nodes 4 --detach"))
@_STATE
@click.option(
    "--nodes", metavar="N", type=click.IntRange(1, MOST_NODES), default=2, show_default=True, help="How many nodes."
)
@click.option(
    "--relays", metavar="N", type=click.IntRange(1, MOST_RELAYS), default=1, show_default=True, help="How many relays."
)
@click.option(
    "--port", "ports", metavar="PORT", type=click.IntRange(1, LARGEST_PORT), multiple=True, default=DEFAULT_PORTS,
    show_default=True,
    help="A port of this machine's loopback that new nodes open; may be repeated.",
)  # fmt: skip
@click.option(
    "--platform", type=click.Choice(["azure", "aws", "gcp"]), default="azure", show_default=True,
    help="The emulated cloud whose machines the nodes are.",
)  # fmt: skip
@click.option("--detach", is_flag=True, help="Return once the sandbox is ready, and leave it running.")
@click.pass_context
def up(
    context: click.Context,
    state: Path | None,
    nodes: int,
    relays: int,
    ports: tuple[int, ...],
    platform: str,
    detach: bool,
) -> None:
    """Start a sandbox: a control plane, a relay, and nodes that only dial out, each its own process.

    For development only: its machines prove what they are to an emulated identity service. Ctrl-C, or `trunkline down`
    from elsewhere, stops everything. What the directory holds is used again the next time.
    """
    plan = SandboxPlan(_layout(context, state), nodes, relays, ports=ports, platform=platform)
    missing = missing_package()
    if missing is not None:
        message = f"a sandbox needs the package {missing}: pip install 'trunkline[sandbox]'"
        raise CommandFailed(message, os.EX_UNAVAILABLE)
    try:
        plan.layout.make(plan.nodes, plan.relays)
        if detach:
            _start_in_background(plan)
        else:
            _run_here(plan)
    except AlreadyRunning:
        raise CommandFailed(
            f"a sandbox is running in {plan.layout.root} already; stop it with `trunkline down`", os.EX_TEMPFAIL
        ) from None
    except SandboxFailed as failure:
        raise CommandFailed(str(failure), os.EX_UNAVAILABLE) from None
    except BrokenPipeError:
        raise  # of our own output, whose reader has gone
    except OSError as error:
        raise CommandFailed(f"{error.filename or plan.layout.root}: {error.strerror}", os.EX_CANTCREAT) from None


@click.command("down")
@_STATE
@click.pass_context
def down(context: click.Context, state: Path | None) -> None:
    """Stop a sandbox; its directory stays, for the next `trunkline up`."""
    layout = _layout(context, state)
    try:
        stopped = stop_sandbox(layout)
    except OSError as error:
        raise CommandFailed(f"{error.filename or layout.root}: {error.strerror}", os.EX_NOPERM) from None
    if stopped:
        click.echo(f"stopped the sandbox in {layout.root}")
    else:
        click.echo(f"no sandbox is running in {layout.root}", err=True)


def _layout(context: click.Context, state: Path | None) -> Layout:
    try:
        return Layout((state or context.find_root().obj or Path(SANDBOX_DIRECTORY)).absolute())
    except FileNotFoundError:
        message = "the current directory has been removed: change to another, or name one with --state"
        raise CommandFailed(message, os.EX_NOINPUT) from None


def _start_in_background(plan: SandboxPlan) -> None:
    with supervision(plan.layout):
        pass  # nobody else has it; the supervisor takes it now
    start_detached(plan)
    description = read_description(plan.layout.description_file) or {}
    click.echo(f"the sandbox is ready in {plan.layout.root}; stop it with `trunkline down{_state_option(plan)}`")
    click.echo(_what_to_try(plan, str(description.get("relay_url", "")), str(description.get("ca_file", ""))))


def _run_here(plan: SandboxPlan) -> None:
    import asyncio

    with loading():
        from trunkline.sandbox.supervisor import Supervisor

    def ready(description: SandboxDescription) -> None:
        click.echo(f"the sandbox is ready in {plan.layout.root}; Ctrl-C stops it")
        click.echo(_what_to_try(plan, description.relay_url, description.ca_file))

    with supervision(plan.layout):
        stop_leftovers(plan.layout)
        nodes = "1 node" if plan.node_count == 1 else f"{plan.node_count} nodes"
        relays = "a relay" if plan.relay_count == 1 else f"{plan.relay_count} relays"
        click.echo(f"starting a control plane, {relays} and {nodes}; logs are in {plan.layout.log_directory}")
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(Supervisor(plan, lambda line: click.echo(f"trunkline: {line}", err=True)).run(ready))


def _what_to_try(plan: SandboxPlan, relay_url: str, ca_file: str) -> str:
    option = _state_option(plan)
    node = f"{relay_url}/v1/workspaces/{plan.workspace}/nodes/vm-1"
    return f"""
Try, in another terminal:
  trunkline node list{option}
  trunkline run{option} --all -- uname -a
  trunkline token call vm-1{option} --file vm-1.token
  printf 'oauth2-bearer = "%s"' "$(cat vm-1.token)" | curl --config - --cacert {ca_file} {node}/v1/health
"""


def _state_option(plan: SandboxPlan) -> str:
    """The option that commands need to find this sandbox from the current directory."""
    if plan.layout.root == Path(SANDBOX_DIRECTORY).absolute():
        return ""
    return f" --state {plan.layout.root}"
