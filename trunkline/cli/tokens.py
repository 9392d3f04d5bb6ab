"""`trunkline token`: tokens for calls, for workspaces, for joining nodes and for enrolling relays.

A token goes to standard output and nowhere else; ``--file`` writes it to a new file that only its owner can read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from trunkline.cli.arguments import pairs_of
from trunkline.cli.examples import examples
from trunkline.cli.exits import CommandFailed, printable
from trunkline.cli.output import moment
from trunkline.cli.session import Invocation, connected
from trunkline.client.records.record import Record
from trunkline.client.records.tokens import AccessToken


def _new_file(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a file that could not be made, before there is a token to put into it."""
    if path is not None and os.path.lexists(path):
        raise CommandFailed(f"{path} exists already: remove it, or name another file", os.EX_CANTCREAT)
    if path is not None and not os.access(path.parent, os.W_OK | os.X_OK):
        reason = "this user may not write there" if path.parent.is_dir() else "there is no such directory"
        raise CommandFailed(f"{path} cannot be made: {reason}; name another file", os.EX_CANTCREAT)
    return path


_FILE = click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path),
    callback=_new_file,
    metavar="FILE",
    help="Write the token there, mode 0600; a file that exists is left alone.",
)
ALL_SCOPES = ("command:submit", "command:read", "health:read", "metrics:read")


F = TypeVar("F", bound=Callable[..., object])


def _lifetime(default_seconds: int | None) -> Callable[[F], F]:
    return click.option(
        "--lifetime", "lifetime_seconds", type=click.IntRange(min=1), default=default_seconds,
        show_default=True if default_seconds is not None else "the longest that there is",
        metavar="SECONDS", help="How long it is good for.",
    )  # fmt: skip


@click.group()
def token() -> None:
    """Make tokens."""


@token.command("call", epilog=examples("token call vm-1 --scope health:read --scope port:8000 --file vm-1.token"))
@click.argument("node")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="SCOPE",
    help="A scope, e.g. health:read or port:4040 (default: the agent's API).",
)
@_lifetime(None)
@_FILE
@connected
def call(
    invocation: Invocation, node: str, scopes: tuple[str, ...], lifetime_seconds: int | None, path: Path | None
) -> None:
    """Make a token for calls to NODE."""
    record = invocation.call(
        lambda session: session.workspace.create_call_token(
            node, scopes or ALL_SCOPES, lifetime_seconds=lifetime_seconds
        )
    )
    _hand_out(record, record.token, invocation.output, path)


@token.command("workspace", epilog=examples("token workspace --port 9100 --lifetime 2592000 --file prometheus.token"))
@click.option(
    "--port",
    "ports",
    metavar="PORT",
    multiple=True,
    required=True,
    type=click.IntRange(1, 65_535),
    help="A shared port.",
)
@_lifetime(86_400)
@_FILE
@connected
def workspace(invocation: Invocation, ports: tuple[int, ...], lifetime_seconds: int, path: Path | None) -> None:
    """Make a token for shared ports of every node of the workspace."""
    record = invocation.call(
        lambda session: session.workspace.create_workspace_token(ports, lifetime_seconds=lifetime_seconds)
    )
    _hand_out(record, record.token, invocation.output, path)


@token.command("join", epilog=examples("token join --node vm-1 --label role=web --file join-token"))
@click.option("--node", "node_name", metavar="NAME", help="The name that the node gets.")
@click.option("--label", "labels", multiple=True, metavar="K=V", help="A label that the node gets.")
@click.option("--cluster", metavar="NAME", help="The cluster that the node joins.")
@click.option(
    "--uses", metavar="N", type=click.IntRange(min=1), default=1, show_default=True, help="For how many nodes."
)
@_lifetime(3_600)
@_FILE
@connected
def join(
    invocation: Invocation,
    node_name: str | None,
    labels: tuple[str, ...],
    cluster: str | None,
    uses: int,
    lifetime_seconds: int,
    path: Path | None,
) -> None:
    """Make a token by which a machine becomes a node of the workspace."""
    wanted = pairs_of(labels, "--label")
    record = invocation.call(
        lambda session: session.workspace.create_join_token(
            node_name=node_name, labels=wanted, cluster=cluster, lifetime_seconds=lifetime_seconds, uses=uses
        )
    )
    _hand_out(record, record.join_token or "", invocation.output, path)


@token.command("relay", epilog=examples("token relay relay-1 --dns-name relay-1.example --file relay-join-token"))
@click.argument("name")
@click.option("--dns-name", "dns_names", multiple=True, required=True, help="A DNS name of the relay.")
@_lifetime(3_600)
@_FILE
@connected
def relay(
    invocation: Invocation, name: str, dns_names: tuple[str, ...], lifetime_seconds: int, path: Path | None
) -> None:
    """Make a single-use token by which the relay NAME enrols."""
    record = invocation.call(
        lambda session: session.control_plane.account.create_relay_join_token(
            name, dns_names, lifetime_seconds=lifetime_seconds
        )
    )
    _hand_out(record, record.join_token, invocation.output, path)


def _hand_out(record: Record, secret: str, output: str, path: Path | None) -> None:
    if path is not None:
        _write_new(path, secret)
        click.echo(f"written to {path}", err=True)
    if output == "json":
        hidden = {"token", "join_token"} if path is not None else None
        click.echo(json.dumps(record.model_dump(mode="json", exclude_none=True, exclude=hidden), indent=2))
    elif path is None:
        click.echo(secret)
    if output == "table":
        click.echo(_remark(record), err=True)


def _remark(record: Record) -> str:
    remark = f"good until {moment(getattr(record, 'expire_time', 0))}"
    if isinstance(record, AccessToken) and record.relays:
        host = f" for {record.host}" if record.host else ""
        remark += f"{host} at {' '.join(relay.url for relay in record.relays)}"
    return printable(remark)


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _write_new(path: Path, secret: str) -> None:
    try:
        with open(path, "x", encoding="ascii", opener=_for_its_owner) as file:
            try:
                file.write(secret + "\n")
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                path.unlink()
                raise
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}; the token is lost, make another one"
        raise CommandFailed(message, os.EX_CANTCREAT) from None
