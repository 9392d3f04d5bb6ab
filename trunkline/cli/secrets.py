"""`trunkline secret`: workspace secrets. A value comes from standard input, a file or a prompt, never an argument."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from trunkline.cli.arguments import YES, confirm, pairs_of
from trunkline.cli.examples import examples
from trunkline.cli.exits import CommandFailed
from trunkline.cli.output import print_done, print_record, print_records
from trunkline.cli.session import Invocation, connected
from trunkline.client.commands import Target
from trunkline.client.records.secrets import KeyRotation

LARGEST_VALUE_BYTES = 131_072
R = TypeVar("R")


@click.group()
def secret() -> None:
    """Workspace secrets: what commands are given by reference, and never shows."""


@secret.command("create-scope")
@click.argument("scope")
@connected
def create_scope(invocation: Invocation, scope: str) -> None:
    """Create a scope. It is granted to no node until you grant it."""
    print_record(invocation.call(lambda session: session.workspace.secrets.create_scope(scope)), invocation.output)


@secret.command("list-scopes")
@connected
def list_scopes(invocation: Invocation) -> None:
    """List all scopes."""
    records = invocation.collect(lambda session: session.workspace.secrets.list_scopes())
    print_records("scopes", records, ("name", "creation_time"), invocation.output)


@secret.command("delete-scope")
@click.argument("scope")
@YES
@connected
def delete_scope(invocation: Invocation, scope: str, yes: bool) -> None:
    """Delete a scope with all its secrets and grants."""
    confirm("Delete the scope with all its secrets?", yes=yes)
    invocation.call(lambda session: session.workspace.secrets.delete_scope(scope))
    print_done(f"deleted {scope}", invocation.output)


@secret.command(
    "put",
    epilog=examples(
        "secret put db/password --file password",
        "openssl rand -base64 24 | trunkline secret put db/password --strip-newline",
    ),
)
@click.argument("name", metavar="SCOPE/KEY")
@click.option("--file", "file", type=click.Path(path_type=Path, dir_okay=False, exists=True), metavar="FILE",
              help="Read the value from FILE instead of standard input.")  # fmt: skip
@click.option("--strip-newline", is_flag=True, help="Leave out a line end at the end of the value.")
@connected
def put(invocation: Invocation, name: str, file: Path | None, strip_newline: bool) -> None:
    """Store a value, read from standard input or a file, as the secret's next version."""
    scope, key = _scope_and_key(name)
    value = _read_value(file, strip_newline=strip_newline)
    version = invocation.call(lambda session: session.workspace.secrets.put(scope, key, value))
    print_done(f"{name} has version {version}", invocation.output, version=version)


@secret.command("delete")
@click.argument("name", metavar="SCOPE/KEY")
@YES
@connected
def delete(invocation: Invocation, name: str, yes: bool) -> None:
    """Delete a secret; nodes drop it."""
    scope, key = _scope_and_key(name)
    confirm("Delete the secret?", yes=yes)
    invocation.call(lambda session: session.workspace.secrets.delete(scope, key))
    print_done(f"deleted {name}", invocation.output)


@secret.command("list")
@click.argument("scope")
@connected
def list_(invocation: Invocation, scope: str) -> None:
    """List the secrets of a scope, without their values."""
    records = invocation.collect(lambda session: session.workspace.secrets.list(scope))
    print_records(
        "secrets", records, ("key", "version", "size_bytes", "updated_by", "last_updated_timestamp"), invocation.output
    )


def _targeted(command: Callable[..., R]) -> Callable[..., R]:
    for option in (
        click.option("--all", "everywhere", is_flag=True, help="Every node of the workspace, also later ones."),
        click.option("--selector", "-l", "labels", multiple=True, metavar="K=V", help="All nodes with this label."),
        click.option("--cluster", metavar="NAME", help="All nodes of this cluster."),
        click.option("--node", metavar="NAME", help="This node."),
    ):
        command = option(command)
    return command


@secret.command("grant", epilog=examples("secret grant db --cluster web"))
@click.argument("scope")
@_targeted
@connected
def grant(invocation: Invocation, scope: str, **target: Any) -> None:
    """Let nodes be given the secrets of a scope, now and whenever a node comes to be one of them."""
    granted = _target(**target)
    print_record(invocation.call(lambda session: session.workspace.secrets.grant(scope, granted)), invocation.output)


@secret.command("ungrant")
@click.argument("scope")
@_targeted
@connected
def ungrant(invocation: Invocation, scope: str, **target: Any) -> None:
    """Take a grant back, named as it was given; nodes without another one drop the secrets."""
    granted = _target(**target)
    invocation.call(lambda session: session.workspace.secrets.ungrant(scope, granted))
    print_done(f"took {scope} back", invocation.output)


@secret.command("grants")
@click.argument("scope")
@connected
def grants(invocation: Invocation, scope: str) -> None:
    """List the grants of a scope."""
    records = invocation.collect(lambda session: session.workspace.secrets.list_grants(scope))
    print_records("grants", records, ("scope", "target", "creation_time"), invocation.output)


@secret.command("adoption")
@click.argument("name", metavar="SCOPE/KEY")
@connected
def adoption(invocation: Invocation, name: str) -> None:
    """Show which nodes are to have a secret, and which version each of them holds."""
    scope, key = _scope_and_key(name)
    adoption = invocation.call(lambda session: session.workspace.secrets.whole_adoption(scope, key))
    if invocation.output == "json":
        print_record(adoption, "json")
    else:
        print_records("nodes", adoption.nodes, ("node", "state", "version", "adopt_time"), "table")


@secret.command("rotate-key")
@connected
def rotate_key(invocation: Invocation) -> None:
    """Replace the key that protects the data keys of all workspaces; no value changes, and no node is asked."""
    rotation: KeyRotation = invocation.call(lambda session: session.control_plane.account.rotate_secret_key())
    print_record(rotation, invocation.output)


def _scope_and_key(name: str) -> tuple[str, str]:
    scope, separator, key = name.partition("/")
    if not separator or not scope or not key:
        raise click.BadParameter(f"{name!r} is not of the form SCOPE/KEY", param_hint="SCOPE/KEY")
    return scope, key


def _target(node: str | None, cluster: str | None, labels: tuple[str, ...], everywhere: bool) -> Target:
    selector = pairs_of(labels, "--selector") or None
    target = Target(node=node, cluster=cluster, selector=selector, everywhere=everywhere)
    try:
        target.document()
    except ValueError:
        raise click.UsageError("give exactly one of --node, --cluster, --selector and --all") from None
    return target


def _read_value(file: Path | None, *, strip_newline: bool) -> bytes:
    if file is not None:
        value = _read_file(file)
    elif sys.stdin.isatty():
        value = str(click.prompt("Value", hide_input=True, confirmation_prompt=True, err=True)).encode()
    else:
        value = sys.stdin.buffer.read(LARGEST_VALUE_BYTES + 2)
    if strip_newline:
        value = value.removesuffix(b"\n").removesuffix(b"\r")
    elif value.endswith(b"\n") and value.count(b"\n") == 1:
        click.echo("trunkline: the value ends with a line end, which is kept; see --strip-newline", err=True)
    if not 0 < len(value) <= LARGEST_VALUE_BYTES:
        raise CommandFailed(f"a secret has 1 to {LARGEST_VALUE_BYTES} bytes", os.EX_DATAERR)
    return value


def _read_file(file: Path) -> bytes:
    with file.open("rb") as opened:
        if stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & 0o004:
            click.echo(f"trunkline: {file} can be read by everybody on this machine", err=True)
        return opened.read(LARGEST_VALUE_BYTES + 2)
