"""The `trunkline` command: the tree of sub-commands, and how every error becomes one line and an exit status."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from trunkline.cli.exits import (
    BROKEN_PIPE,
    INTERRUPTED,
    CommandFailed,
    ReaderGone,
    line_of,
    line_of_os_error,
    status_of,
)
from trunkline.cli.lazy_group import LazyGroup
from trunkline.cli.standard_streams import open_standard_streams
from trunkline.client.errors import TrunklineError
from trunkline.runtime.loading import leave_the_rest
from trunkline.version import __version__

_COMMANDS = {
    "up": ("trunkline.cli.sandbox:up", "Start a sandbox: control plane, relays and nodes on this machine."),
    "down": ("trunkline.cli.sandbox:down", "Stop a sandbox."),
    "run": ("trunkline.cli.run:run", "Run a command on nodes and stream its output."),
    "script": ("trunkline.cli.script:script", "Run a script of this machine on nodes."),
    "command": ("trunkline.cli.commands:command", "Commands that were run: list, get, events, output, attach, cancel."),
    "submission": ("trunkline.cli.submissions:submission", "What was run as a whole: list, get, commands, cancel."),
    "shell": ("trunkline.cli.shell:shell", "Open a shell on a node."),
    "cp": ("trunkline.cli.cp:cp", "Copy files from and to a node."),
    "node": ("trunkline.cli.nodes:node", "Nodes: list, get, health, policy, init, delete."),
    "cluster": ("trunkline.cli.clusters:cluster", "Clusters: create, list, get, add, remove, delete, init-scripts."),
    "init-script": (
        "trunkline.cli.init_scripts:init_script",
        "What new nodes run first: create, list, get, update, move, delete.",
    ),
    "workspace": ("trunkline.cli.workspaces:workspace", "Workspaces: create, list, get, quotas, delete."),
    "secret": ("trunkline.cli.secrets:secret", "Workspace secrets: scopes, values, grants, adoption."),
    "token": ("trunkline.cli.tokens:token", "Make tokens: call, workspace, join, relay."),
    "join-token": ("trunkline.cli.join_tokens:join_token", "Join tokens that exist: list, delete."),
    "relays": ("trunkline.cli.relays:relays", "Enrolled relays: list, delete."),
    "audit": ("trunkline.cli.audit:audit", "The audit: who did what."),
    "join-policy": ("trunkline.cli.join_policies:join_policy", "Join policies: create, list, get, delete."),
    "join-request": ("trunkline.cli.join_requests:join_request", "Machines that wait: list, approve, deny."),
    "revoke": ("trunkline.cli.revoke:revoke", "Revoke a token, node, certificate or workspace."),
    "revocation": ("trunkline.cli.revocations:revocation", "Revocations in force: list, get."),
    "lock": ("trunkline.cli.locks:lock", "Lock a node, workspace, token or certificate for a while; list, get, lift."),
    "ca": ("trunkline.cli.rotation:ca", "The certificate authority: status, rotate, and each step of a rotation."),
    "signing-key": ("trunkline.cli.rotation:signing_key", "The key that signs tokens: the same, and revoke."),
    "forward": ("trunkline.cli.forward:forward", "Open a local port that leads to a port of a node."),
    "proxy": ("trunkline.cli.proxy:proxy", "Run a local HTTP proxy to the nodes of a workspace."),
    "relay": ("trunkline.cli.daemons:relay", "Run the relay daemon."),
    "node-agent": ("trunkline.cli.daemons:node_agent", "Run the node agent daemon."),
    "control-plane": (
        "trunkline.cli.daemons:control_plane",
        "Run the control plane daemon; initialise it, or mend it after a restore.",
    ),
    "completion": ("trunkline.cli.completion:completion", "Print the completion script for a shell."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--state", type=click.Path(path_type=Path), metavar="DIR", help="Use the sandbox in DIR (default: ./.trunkline)."
)
@click.version_option(__version__, prog_name="trunkline", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, state: Path | None) -> None:
    """Run commands on, watch, and reach machines that accept no inbound connection."""
    context.obj = state


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: the remote command's own for `run`, else as in sysexits(3).

    Without `argv` it is this process's own, which ends with it.
    """
    try:
        if argv is None:
            open_standard_streams()
        return _main(argv)
    finally:
        if argv is None:
            leave_the_rest()


def _main(argv: Sequence[str] | None) -> int:
    try:
        status = _run(lambda: cli.main(args=argv, prog_name="trunkline", standalone_mode=False))
        sys.stdout.flush()
    except (BrokenPipeError, ReaderGone):
        _forget_output()
        return BROKEN_PIPE
    except OSError as error:
        if error.errno is None:
            raise  # a fault of ours: what the machine refuses has a number
        _forget_output()
        return _fail(line_of_os_error(error), os.EX_IOERR)
    return status


def _run(call: Callable[[], object]) -> int:
    try:
        result = call()
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(f"{error.format_message()}\n")
        return os.EX_USAGE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "trunkline"
        message = " ".join(error.format_message().split()).rstrip(".")  # click writes a list of choices in lines
        return _fail(f"{message} (see {path} --help)", _status_of_usage(error))
    except click.FileError as error:
        return _fail(error.format_message(), os.EX_NOINPUT)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.ClickException as error:
        return _fail(error.format_message(), os.EX_USAGE)
    except CommandFailed as error:
        return _fail(str(error), error.status)
    except TrunklineError as error:
        return _fail(line_of(error), status_of(error))
    return result if isinstance(result, int) else 0


def _status_of_usage(error: click.UsageError) -> int:
    """A file that is named and cannot be read is no wrong usage."""
    if isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter):
        is_file = error.param is not None and isinstance(error.param.type, click.Path | click.File)
        return os.EX_NOINPUT if is_file else os.EX_USAGE
    return os.EX_USAGE


def _fail(line: str, status: int) -> int:
    with contextlib.suppress(OSError):  # it may be standard error itself that takes nothing
        sys.stderr.write(f"trunkline: {line}\n")
    return status


def _forget_output() -> None:
    """Point standard output at nothing, so that the interpreter's last flush does not fail as well."""
    with contextlib.suppress(io.UnsupportedOperation):  # what stands for it in a program that embeds us is no file
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
