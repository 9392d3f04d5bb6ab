"""Requests that the control plane's messages name, as commands."""

from __future__ import annotations

import click
import pytest

from tests.support.fake_control_plane import FakeControlPlane, error
from tests.trunkline.cli.conftest import Trunkline
from trunkline.cli import listings
from trunkline.cli.listings import with_commands
from trunkline.cli.main import cli


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("/w/main/api/2.0/nodes", "node list -w main"),
        ("/w/main/api/2.0/clusters/red/init-scripts", "cluster init-scripts list red -w main"),
        ("/w/main/api/2.0/secrets/list?scope=…", "secret list SCOPE -w main"),
        ("/api/2.0/accounts/ac-1/workspaces", "workspace list"),
        ("/api/2.0/locks", "lock list"),
        ("/api/2.0/revocations", "revocation list"),
    ],
)
def test_a_request_becomes_the_command_that_does_the_same(path: str, command: str) -> None:
    assert with_commands(f"nothing; GET {path} lists it") == f"nothing; `trunkline {command}` lists it"


@pytest.mark.parametrize("path", ["/api/2.0/accounts", "/api/2.0/tokens", "/w/main/api/2.1/nodes", "/nodes"])
def test_a_request_that_no_command_makes_stays(path: str) -> None:
    assert with_commands(f"GET {path} lists it") == f"GET {path} lists it"


@pytest.mark.parametrize(
    "words", [*listings._EVERYWHERE.values(), *listings._ACCOUNT.values(), *listings._WORKSPACE.values()]
)
def test_the_commands_exist(words: str) -> None:
    context = click.Context(cli)
    command: click.Command | None = cli
    for word in words.removesuffix(" SCOPE").split():
        assert isinstance(command, click.Group)
        command = command.get_command(context, word)
    assert command is not None


def test_an_error_says_what_to_type(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    message = "there is no such node; GET /w/main/api/2.0/nodes lists what there is"
    fake.failures = [error(404, "RESOURCE_DOES_NOT_EXIST", message)]
    told = trunkline("node", "get", "vm-9").stderr
    assert told == "trunkline: there is no such node; `trunkline node list -w main` lists what there is\n"
