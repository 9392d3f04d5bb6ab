"""Running something on nodes, and taking part in what runs already: submit, follow to the end, exit status."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from http import HTTPStatus

import click

from trunkline.cli.command_status import cut_of, remark_on, status_of_commands, status_of_fleet
from trunkline.cli.delivery_notes import DeliveryNotes, tell, telling
from trunkline.cli.exits import CommandFailed, line_of, printable
from trunkline.cli.fleet_following import FleetFollower, standings_of_one
from trunkline.cli.fleet_options import FleetChoice
from trunkline.cli.fleet_views import FleetView, fleet_view
from trunkline.cli.following import (
    CANCEL_SECONDS,
    Interruption,
    follow_all,
    unless_insisted,
    unless_interrupted,
    until_interrupted,
)
from trunkline.cli.input_sending import input_sent
from trunkline.cli.local_input import LocalInput
from trunkline.cli.patient_output import passed, patient
from trunkline.cli.remote_output import outputs_for
from trunkline.cli.session import Session
from trunkline.client.commands import CommandRequest
from trunkline.client.errors import ApiError, TrunklineError
from trunkline.client.records.commands import Command
from trunkline.client.submissions import Standing

_NOT_WAITED_FOR = "its end was asked for, and not waited for: the command may still run; see `trunkline command list`"


async def run_on_nodes(
    session: Session, choice: FleetChoice, request: CommandRequest, following: LocalInput | None = None
) -> int:
    """Submit, follow unless detached, and return the exit status; `following` is input for the command of one node.

    Raises:
        CommandFailed: no node matches, or the user did not wait for the answer.
        TrunklineError: the control plane refuses, or stays away.
    """
    api = session.commands
    interruption = Interruption(by_hang_up=following is not None)  # nobody else could bring it the rest of its input
    with interruption.watching():
        commands = await unless_insisted(api.submit(choice.target, request, choice.rollout), interruption)
        if commands is None:
            raise CommandFailed(
                "it is not known whether the command was submitted; see `trunkline command list`", interruption.status
            )
        if not commands:
            raise CommandFailed("no node matches; see `trunkline node list`", os.EX_DATAERR)
        submission_id = commands[0].submission_id
        if choice.detach:
            click.echo(
                printable(submission_id) if choice.output == "text" else json.dumps({"submission_id": submission_id})
            )
            return 0
        async with input_sent(api, commands[0].command_id, following):
            if len(commands) == 1 and choice.output == "text" and choice.rollout is None:
                return await _follow_one(session, commands, interruption)
            return await _follow_many(session, choice, commands, interruption)


async def attach(session: Session, asked_id: str, output: str, *, from_now: bool, quiet: bool) -> int:
    """Follow a submission, or one of its commands, and return the exit status; an interruption leaves it alone.

    Raises:
        TrunklineError: there is neither of this id, or the control plane stays away.
    """
    workspace, interruption = session.workspace, Interruption()
    try:
        nodes = _names([command async for command in workspace.submissions.commands(asked_id)])
        standings = workspace.submissions.watch(asked_id)
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        nodes = _names([await workspace.commands.get(asked_id)])
        standings = standings_of_one(workspace.commands, asked_id)
    with interruption.watching(), fleet_view(output, nodes, quiet=quiet) as view:
        follower = FleetFollower(workspace.commands, standings, view, from_now=from_now)
        standing = await unless_interrupted(follower.run(), interruption)
    if standing is None:
        tell(f"it goes on; `trunkline command cancel {asked_id}` ends it")
        return interruption.status
    return await _end(standing, view, interruption)


async def cancel_submission(session: Session, submission_id: str) -> None:
    """Ask for the end of all of it, for `CANCEL_SECONDS`; what cannot be asked now is told."""
    try:
        async with asyncio.timeout(CANCEL_SECONDS):
            await session.submissions.cancel(submission_id)
    except (TimeoutError, TrunklineError) as error:
        reason = "no answer" if isinstance(error, TimeoutError) else line_of(error)
        tell(f"its end could not be asked for: {reason}; see `trunkline command cancel {submission_id}`")


async def _follow_many(
    session: Session, choice: FleetChoice, commands: Sequence[Command], interruption: Interruption
) -> int:
    """Follow the commands of a submission."""
    workspace, submission_id = session.workspace, commands[0].submission_id
    with fleet_view(choice.output, _names(commands), quiet=choice.quiet) as view:
        follower = FleetFollower(workspace.commands, workspace.submissions.watch(submission_id), view)

        async def cancel() -> None:
            view.tell("its end is asked for on all nodes; a run with --detach goes on without us")
            await cancel_submission(session, submission_id)

        standing = await until_interrupted(follower.run(), cancel, interruption)
    return await _end(standing, view, interruption)


async def _follow_one(session: Session, commands: Sequence[Command], interruption: Interruption) -> int:
    """Follow the command of one node, whose outputs pass as they are."""
    stderr = patient(sys.stderr.buffer)
    outputs, tell = outputs_for(_names(commands), patient(sys.stdout.buffer), stderr), telling(stderr)
    ended = await follow_all(session.commands, commands, outputs, interruption, DeliveryNotes(tell))
    if interruption.requested.is_set() and not all(command.state.final for command in ended):
        tell(_NOT_WAITED_FOR)
    for command in ended:
        for remark in (remark_on(command, several=False), cut_of(command)):
            if remark is not None:
                tell(remark)
    await unless_interrupted(passed(stderr), interruption)
    return interruption.status if interruption.requested.is_set() else status_of_commands(ended)


async def _end(standing: Standing | None, view: FleetView, interruption: Interruption) -> int:
    status = interruption.status
    if standing is None:
        view.tell(_NOT_WAITED_FOR)
    else:
        status = status if interruption.requested.is_set() else status_of_fleet(standing)
        view.finish(standing, status)
    await unless_interrupted(view.passed(), interruption)
    return status


def _names(commands: Sequence[Command]) -> list[str]:
    return [command.node or command.node_id for command in commands]
