"""`trunkline init-script` and `trunkline cluster init-scripts`: what new nodes run before they take commands.

Both are the same sub-commands; those of a cluster take it as their first argument.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from trunkline.cli.arguments import YES, confirm, secrets_of
from trunkline.cli.exits import CommandFailed
from trunkline.cli.output import print_done, print_record, print_records
from trunkline.cli.remote_output import output_to
from trunkline.cli.session import Invocation, Session, connected
from trunkline.client.init_scripts import InitScriptApi, content_of
from trunkline.client.scripts import check_shebang

LARGEST_SCRIPT_BYTES = 64 * 1024
COLUMNS = ("position", "name", "enabled", "script_id", "sha256", "updated_by", "updated_at")

R = TypeVar("R")

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True)
_POSITION = click.option("--position", type=click.IntRange(min=0), metavar="N", help="Its place, from 0.")
_ENABLED = click.option("--enable/--disable", "enabled", default=None, help="Whether new nodes run it.")

_SECRET_ENVIRONMENT = click.option(
    "--secret-env",
    "secret_environment",
    multiple=True,
    metavar="NAME=SCOPE/KEY",
    help="A workspace secret as a variable; may be repeated.",
)
_SECRET_FILES = click.option(
    "--secret-file",
    "secret_files",
    multiple=True,
    metavar="NAME=SCOPE/KEY",
    help="A workspace secret as a file; may be repeated.",
)


@click.group("init-script")
def init_script() -> None:
    """Init scripts of the workspace: every new node runs them, in their order, before it takes commands."""


@click.group("init-scripts")
def cluster_init_scripts() -> None:
    """Init scripts of a cluster: its new nodes run them after those of the workspace."""


def _scripts(session: Session, cluster: str | None) -> InitScriptApi:
    workspace = session.workspace
    return workspace.init_scripts if cluster is None else workspace.cluster_init_scripts(cluster)


def list_(invocation: Invocation, cluster: str | None = None) -> None:
    """List the scripts in the order in which they run."""
    records = invocation.collect(lambda session: _scripts(session, cluster).list())
    print_records("scripts", records, COLUMNS, invocation.output)


def create(
    invocation: Invocation,
    name: str,
    file: Path,
    enabled: bool | None,
    position: int | None,
    secret_environment: tuple[str, ...],
    secret_files: tuple[str, ...],
    cluster: str | None = None,
) -> None:
    """Create the script NAME with the content of FILE (- is standard input); it runs nowhere without --enable."""
    content = _read(file)
    secrets = _secrets(secret_environment, secret_files)
    record = invocation.call(
        lambda session: _scripts(session, cluster).create(
            name, content, enabled=bool(enabled), position=position, secrets=secrets
        )
    )
    print_record(record, invocation.output)


def get(invocation: Invocation, script: str, content: bool, cluster: str | None = None) -> None:
    """Show one script by its name or id."""
    record = invocation.call(lambda session: _scripts(session, cluster).get(script))
    if content:
        output = output_to(sys.stdout.buffer)
        output.write(content_of(record))
        output.close()
        return
    print_record(record.model_copy(update={"script": None}), invocation.output)


def update(
    invocation: Invocation,
    script: str,
    file: Path | None,
    name: str | None,
    enabled: bool | None,
    secret_environment: tuple[str, ...],
    secret_files: tuple[str, ...],
    no_secrets: bool,
    cluster: str | None = None,
) -> None:
    """Change a script; only nodes that bootstrap from now on run it so.

    Secrets that are named take the place of all that it had.
    """
    content = _read(file) if file is not None else None
    secrets = _secrets(secret_environment, secret_files)
    if secrets and no_secrets:
        raise click.UsageError("give secrets, or --no-secrets")
    if content is None and name is None and enabled is None and not secrets and not no_secrets:
        raise click.UsageError(
            "say what to change: --file, --name, --enable, --disable, --secret-env, --secret-file or --no-secrets"
        )
    changed = secrets if secrets or no_secrets else None
    record = invocation.call(
        lambda session: _scripts(session, cluster).update(
            script, name=name, content=content, enabled=enabled, secrets=changed
        )
    )
    print_record(record, invocation.output)


def move(invocation: Invocation, script: str, position: int, cluster: str | None = None) -> None:
    """Put a script at POSITION, from 0; those from there on move by one."""
    record = invocation.call(lambda session: _scripts(session, cluster).update(script, position=position))
    print_record(record, invocation.output)


def delete(invocation: Invocation, script: str, yes: bool, cluster: str | None = None) -> None:
    """Delete a script by its name or id; nodes that have run it stay as they are."""
    confirm("Delete the init script? New nodes will not run it.", yes=yes)
    invocation.call(lambda session: _scripts(session, cluster).delete(script))
    print_done(f"deleted {script}", invocation.output)


def _secrets(environment: tuple[str, ...], files: tuple[str, ...]) -> dict[str, dict[str, str]]:
    ways = {"environment": secrets_of(environment, "--secret-env"), "files": secrets_of(files, "--secret-file")}
    return {way: references for way, references in ways.items() if references}


def _read(file: Path) -> bytes:
    if str(file) == "-":
        content = sys.stdin.buffer.read(LARGEST_SCRIPT_BYTES + 1)
    else:
        with file.open("rb") as opened:
            content = opened.read(LARGEST_SCRIPT_BYTES + 1)
    if not 0 < len(content) <= LARGEST_SCRIPT_BYTES:
        raise CommandFailed(f"an init script has 1 to {LARGEST_SCRIPT_BYTES} bytes", os.EX_DATAERR)
    try:
        check_shebang(content)
    except ValueError as error:
        raise CommandFailed(str(error), os.EX_DATAERR) from None
    return content


_SCRIPT = click.argument("script", metavar="SCRIPT")
_PARTS: tuple[tuple[str, Callable[..., None], tuple[Callable[..., Any], ...]], ...] = (
    ("list", list_, ()),
    (
        "create",
        create,
        (
            click.argument("name"),
            click.argument("file", type=_FILE),
            _ENABLED,
            _POSITION,
            _SECRET_ENVIRONMENT,
            _SECRET_FILES,
        ),
    ),
    ("get", get, (_SCRIPT, click.option("--content", is_flag=True, help="Write the script itself, and nothing else."))),
    (
        "update",
        update,
        (
            _SCRIPT,
            click.option("--file", type=_FILE, help="Its new content, - for standard input."),
            click.option("--name", metavar="NAME", help="Its new name."),
            _ENABLED,
            _SECRET_ENVIRONMENT,
            _SECRET_FILES,
            click.option("--no-secrets", is_flag=True, help="It is given no secrets any more."),
        ),
    ),
    ("move", move, (_SCRIPT, click.argument("position", type=click.IntRange(min=0)))),
    ("delete", delete, (_SCRIPT, YES)),
)  # fmt: skip


def _add(group: click.Group, *before: Callable[..., Any]) -> None:
    """Give a group the sub-commands, with these arguments before their own."""
    for name, function, parameters in _PARTS:
        command: Callable[..., Any] = connected(function)
        for parameter in reversed((*before, *parameters)):
            command = parameter(command)
        group.command(name)(command)


_add(init_script)
_add(cluster_init_scripts, click.argument("cluster"))
