"""`trunkline submission`: what was submitted as a whole, to one node or to many."""

from __future__ import annotations

import click

from trunkline.cli.output import print_records, print_tree
from trunkline.cli.session import Invocation, connected

COLUMNS = ("submission_id", "state", "nodes", "counts", "command", "creation_time")
COMMAND_COLUMNS = ("node", "state", "wave", "exit_code", "start_time", "end_time", "reason", "command_id")


@click.group()
def submission() -> None:
    """What was run as a whole."""


@submission.command("list")
@connected
def list_(invocation: Invocation) -> None:
    """List submissions, newest first."""
    records = invocation.collect(lambda session: session.submissions.list())
    print_records("submissions", records, COLUMNS, invocation.output)


@submission.command("get")
@click.argument("submission_id")
@connected
def get(invocation: Invocation, submission_id: str) -> None:
    """Show one submission with its waves."""
    print_tree(invocation.call(lambda session: session.submissions.get(submission_id)), invocation.output)


@submission.command("commands")
@click.argument("submission_id")
@connected
def commands(invocation: Invocation, submission_id: str) -> None:
    """List the commands of a submission, one for each node, in the order of its rollout, as last heard of."""
    records = invocation.collect(lambda session: session.submissions.commands(submission_id))
    print_records("commands", records, COMMAND_COLUMNS, invocation.output)


@submission.command("cancel")
@click.argument("submission_id")
@connected
def cancel(invocation: Invocation, submission_id: str) -> None:
    """Never send what was not sent, and ask for the end of the rest."""
    print_tree(invocation.call(lambda session: session.submissions.cancel(submission_id)), invocation.output)
