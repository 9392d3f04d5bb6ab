"""`trunkline node init`: a node runs its init scripts again, and what became of them is told."""

from __future__ import annotations

import asyncio
import os

import click

from trunkline.cli.exits import CommandFailed, printable
from trunkline.cli.output import print_record, print_records
from trunkline.cli.session import Invocation, Session, connected
from trunkline.client.records.init_scripts import NodeInit

WAIT_SECONDS = 3600.0
POLL_SECONDS = 0.5
COLUMNS = ("name", "state", "exit_code", "start_time", "end_time", "command_id")


@click.command("init")
@click.argument("name")
@click.option("--no-wait", is_flag=True, help="Do not wait for the end.")
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(min=1),
    default=WAIT_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the end.",
)
@connected
def init(invocation: Invocation, name: str, no_wait: bool, timeout_seconds: float) -> None:
    """Have a node run its init scripts again, as they are now: the node takes no commands meanwhile."""
    outcome = invocation.call(lambda session: _again(session, name, None if no_wait else timeout_seconds))
    print_init(outcome, invocation.output)
    if no_wait:
        return
    if not outcome.final:
        raise CommandFailed("the node is still being initialised: see `trunkline node get`", os.EX_TEMPFAIL)
    if outcome.state != "READY":
        raise CommandFailed(printable(_line(outcome)), os.EX_UNAVAILABLE)


def print_init(outcome: NodeInit, output: str) -> None:
    """Print an initialisation: a line for each field and for each script, or a JSON object."""
    if output == "json" or not outcome.scripts:
        print_record(outcome, output)
        return
    print_record(outcome.model_copy(update={"scripts": None}), output)
    print_records("scripts", outcome.scripts, COLUMNS, output)


async def _again(session: Session, name: str, timeout_seconds: float | None) -> NodeInit:
    node = await session.workspace.get_node(name)
    run = node.init.run + 1 if node.init is not None else 1
    outcome = await session.workspace.initialise_node(node.node_id, run)
    if timeout_seconds is None:
        return outcome
    try:
        async with asyncio.timeout(timeout_seconds):
            while not (outcome.run == run and outcome.final):
                await asyncio.sleep(POLL_SECONDS)
                outcome = (await session.workspace.get_node(node.node_id)).init or outcome
    except TimeoutError:
        pass
    return outcome


def _line(outcome: NodeInit) -> str:
    """Return what failed, with the last line that the script wrote."""
    failed = next((one for one in outcome.scripts if one.stderr_tail or one.stdout_tail), None)
    reason = outcome.reason or "the initialisation failed"
    if failed is None:
        return reason
    lines = (failed.stderr_tail or failed.stdout_tail or "").strip().splitlines()
    return f"{reason}: {lines[-1]}" if lines else reason
