"""Workspace secrets, without their values."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from trunkline.client.records.record import Record


class SecretScope(Record):
    """A named group of secrets."""

    name: str
    creation_time: int = 0


class WorkspaceSecret(Record):
    """A secret without its value."""

    key: str
    version: int = 0
    size_bytes: int = 0
    last_updated_timestamp: int = 0
    updated_by: str = ""


class SecretGrant(Record):
    """Leave for nodes to be given a scope's secrets; the target is that of a command."""

    scope: str
    target: dict[str, Any] = Field(default_factory=dict)
    creation_time: int = 0
    created_by: str = ""


class AdoptedSecret(Record):
    """One node's standing towards a secret; `version` is what it holds: adopted, waiting, refused, leaving."""

    node: str
    node_id: str = ""
    granted: bool = True
    state: str = ""
    version: int | None = None
    adopt_time: int | None = None


class SecretAdoption(Record):
    """The version of a secret that nodes are to hold, and every node's standing towards it."""

    version: int = 0
    nodes: list[AdoptedSecret] = Field(default_factory=list)


class KeyRotation(Record):
    """What a rotation of the key-encryption key did."""

    key_id: str
    workspaces: int = 0
