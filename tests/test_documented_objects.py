"""The objects that docs/api.md shows have the fields of the SDK's records, and of the bodies that the API takes."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.api.command_bodies import NewCommand
from trunkline.client.records.commands import Command
from trunkline.client.records.endings import Lock, Revocation
from trunkline.client.records.init_scripts import InitScript, NodeInit
from trunkline.client.records.joining import JoinRequest, JoinToken
from trunkline.client.records.nodes import Cluster, HealthCheck, Node
from trunkline.client.records.record import Record
from trunkline.client.records.relays import Relay
from trunkline.client.records.rotations import Rotation
from trunkline.client.records.secrets import SecretGrant, SecretScope, WorkspaceSecret
from trunkline.client.records.workspaces import Workspace, WorkspaceQuotas

PAGE = (Path(__file__).parents[1] / "docs" / "api.md").read_text()
OBJECTS: dict[str, type[Record]] = {
    "Workspace": Workspace,
    "Quotas": WorkspaceQuotas,
    "Node": Node,
    "Cluster": Cluster,
    "InitScript": InitScript,
    "Init": NodeInit,
    "JoinToken": JoinToken,
    "JoinRequest": JoinRequest,
    "Command": Command,
    "Revocation": Revocation,
    "Lock": Lock,
    "Rotation": Rotation,
}
"""What stands on the page as `Name: {…}`."""
ENTRIES: dict[str, type[Record]] = {
    "relays": Relay,
    "scopes": SecretScope,
    "secrets": WorkspaceSecret,
    "grants": SecretGrant,
    "history": HealthCheck,
}
"""What the page shows of the entries of a list, `{"name": [{…}]}`, at the first place."""
ONLY_ASKED_FOR = {"adoption", "init", "join_token"}
"""Fields that one answer alone has, beside those of the object."""


def fields(text: str) -> Iterator[str]:
    """The names of an object that the page shows, without those of objects in it and without values."""
    depth = 0
    for part in re.finditer(r'[{}\[\]]|"(\w+)"', text):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(part[0], 0)
        if depth == 0:
            return
        if depth == 1 and part[1] and not text[: part.start()].rstrip().endswith((":", "|")):
            yield part[1]


def shown(name: str) -> str:
    """The object that the page shows under this name."""
    return PAGE[PAGE.index(f"\n{name}: `{{") + len(f"\n{name}: `") :]


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_has_the_fields_of_its_record(name: str) -> None:
    assert set(fields(shown(name))) == set(OBJECTS[name].model_fields) - ONLY_ASKED_FOR


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_of_a_list_has_the_fields_of_its_record(name: str) -> None:
    entry = PAGE[PAGE.index(f'{{"{name}": [{{"') + len(f'{{"{name}": [') :]
    assert set(fields(entry)) == set(ENTRIES[name].model_fields)


def test_a_submission_has_the_fields_that_the_api_takes() -> None:
    assert set(fields(shown("Submit"))) == set(NewCommand.model_fields)
