"""`trunkline cp`: files and directories, from this machine to a node and back."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from trunkline.cli.copies import Choices, Copies
from trunkline.cli.copy_display import CopyDisplay
from trunkline.cli.copy_places import CopyPlace, check_ways, place_of
from trunkline.cli.examples import examples
from trunkline.cli.exits import CommandFailed, line_of, status_of
from trunkline.cli.session import Invocation, Session, connected_stream
from trunkline.client.errors import ApiError
from trunkline.client.file_calls import FileCalls
from trunkline.files.names import shown

SOMETHING_LEFT_OUT = 1


@click.command("cp", epilog=examples("cp report.csv vm-1:/srv/in/", "cp -r vm-1:/var/log/app logs"))
@click.option("--recursive", "-r", is_flag=True, help="Copy directories, and what is in them.")
@click.option("--preserve", "-p", is_flag=True, help="Keep permissions and times of change.")
@click.option("--user", metavar="NAME", help="The user on the node, if the owner's policy allows it.")
@click.option("--quiet", "-q", is_flag=True, help="Tell only what went wrong.")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("target", metavar="TARGET")
@connected_stream
def cp(
    invocation: Invocation,
    recursive: bool,
    preserve: bool,
    user: str | None,
    quiet: bool,
    sources: tuple[str, ...],
    target: str,
) -> int:
    """Copy files between this machine and a node: NODE:PATH is on the node, `-` is our standard input or output.

    Whatever breaks on the way is taken up again at the byte where it broke, by this command or by the same one later,
    and a file is in its place only when it is whole and its SHA-256 is right.
    """
    froms, to = [place_of(source) for source in sources], place_of(target)
    check_ways(froms, to, recursive=recursive)
    display = CopyDisplay(quiet=quiet)
    choices = Choices(recursive, preserve, len(froms) > 1, _umask())
    copies = Copies(choices, display.listener())

    async def work(session: Session) -> None:
        await _copy(session, copies, froms, to, user)

    invocation.call(work)
    display.finish(copies.copied.files)
    return SOMETHING_LEFT_OUT if copies.copied.left_out else 0


async def _copy(
    session: Session, copies: Copies, sources: Sequence[CopyPlace], target: CopyPlace, user: str | None
) -> None:
    for source in sources:
        name = source.node or target.node or ""
        calls = FileCalls(session.control_plane.node(session.workspace.name, name), user)
        try:
            await _copy_one(copies, calls, source, target)
        except ApiError as error:
            where = f"{name}:{source.path if source.node is not None else target.path}"
            raise CommandFailed(f"{shown(where)}: {line_of(error)}", status_of(error)) from None


async def _copy_one(copies: Copies, calls: FileCalls, source: CopyPlace, target: CopyPlace) -> None:
    if source.is_standard:
        await copies.take(calls, target.path)
    elif target.is_standard:
        await copies.show(calls, source.path)
    elif source.node is not None:
        await copies.fetch(calls, source.path, target.path)
    else:
        await copies.send(calls, source.path, target.path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
