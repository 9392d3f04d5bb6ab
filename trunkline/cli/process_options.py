"""The options of what kind of process is run on a node: its environment, secrets, directory, user, bounds and id."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from trunkline.cli.arguments import limits_of, pairs_of, secrets_of

R = TypeVar("R")

_PLAIN = ("timeout_seconds", "grace_seconds", "directory", "user", "command_id")

_OPTIONS = (
    click.option("--timeout", "timeout_seconds", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
                 help="Kill the command after that time."),
    click.option("--grace", "grace_seconds", type=click.FloatRange(min=0), metavar="SECONDS",
                 help="How long it may take to end when it is told to, before it is killed."),
    click.option("--limit", "limits", multiple=True, metavar="NAME=N",
                 help="Bound what it uses: memory=512M, processes=N, cpu=PERCENT of one processor, open-files=N, "
                      "output=10M of each stream. The node's owner bounds all of them."),
    click.option("--env", "environment", multiple=True, metavar="K=V", help="A variable of the command's environment."),
    click.option("--secret-env", "secret_environment", multiple=True, metavar="NAME=SCOPE/KEY",
                 help="Give a workspace secret as a variable."),
    click.option("--secret-file", "secret_files", multiple=True, metavar="NAME=SCOPE/KEY",
                 help="Give a workspace secret as the file NAME in $TRUNKLINE_SECRETS_DIRECTORY."),
    click.option("--directory", metavar="DIR", help="The command's working directory on the node."),
    click.option("--user", metavar="NAME",
                 help="The user on the node that it runs as, if the owner's policy allows it."),
    click.option("--id", "command_id", metavar="ID", help="The command's id; the same id runs only once."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProcessChoice:
    """What was chosen, by the names of the fields of `CommandRequest`."""

    timeout_seconds: float | None
    grace_seconds: float | None
    limits: dict[str, int]
    environment: dict[str, str]
    secret_environment: dict[str, str]
    secret_files: dict[str, str]
    directory: str | None
    user: str | None
    command_id: str | None

    def fields(self) -> dict[str, Any]:
        """The fields of the request that they are."""
        return {
            "timeout_seconds": self.timeout_seconds,
            "grace_seconds": self.grace_seconds,
            "limits": self.limits,
            "environment": self.environment,
            "secret_environment": self.secret_environment,
            "secret_files": self.secret_files,
            "working_directory": self.directory,
            "user": self.user,
            "command_id": self.command_id,
        }


def process_options(command: Callable[..., R]) -> Callable[..., R]:
    """Give a sub-command these options, and a `ProcessChoice` as its argument `process`."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> R:
        process = ProcessChoice(
            environment=pairs_of(options.pop("environment"), "--env"),
            secret_environment=secrets_of(options.pop("secret_environment"), "--secret-env"),
            secret_files=secrets_of(options.pop("secret_files"), "--secret-file"),
            limits=limits_of(options.pop("limits"), "--limit"),
            **{name: options.pop(name) for name in _PLAIN},
        )
        return command(*arguments, process=process, **options)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped
