"""Nodes, their health and their owners' policies, and clusters of them."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from trunkline.client.records.init_scripts import NodeInit
from trunkline.client.records.record import Record


class Node(Record):
    """One enrolled machine as the control plane sees it; `init` is there where one node is asked for."""

    node_id: str
    node: str
    workspace_id: str = ""
    workspace: str = ""
    state: str = "pending"
    state_reason: str | None = None
    init_state: str | None = None
    init_reason: str | None = None
    init: NodeInit | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    clusters: list[str] = Field(default_factory=list)
    agent_version: str | None = None
    host: str | None = None
    creation_time: int = 0
    last_seen_time: int | None = None
    relay_id: str | None = None


class NodeHealth(Record):
    """A node's health: the control plane's verdict, or the agent's own answer; ``extra`` holds what is not named."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    status: str = ""
    state: str = ""
    state_reason: str | None = None
    state_time: int | None = None
    health_time: int | None = None
    node_id: str = ""
    agent_version: str | None = None
    uptime_seconds: float | None = None
    clock_offset_seconds: float | None = None
    load: list[float] | None = None
    memory: dict[str, Any] | None = None
    disk: dict[str, Any] | None = None
    pressure: dict[str, Any] | None = None
    checks: list[dict[str, Any]] = Field(default_factory=list)


class HealthCheck(Record):
    """What one check of a node by the control plane found, and the state that the node had after it."""

    time: int
    state: str = ""
    result: str = ""
    reason: str | None = None
    rtt_milliseconds: float | None = None


class NodePolicy(Record):
    """What a node's owner allows, in the node's own words; ``extra`` holds what is not named."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    node_id: str = ""
    node: str = ""
    commands: dict[str, Any] = Field(default_factory=dict)
    secrets: dict[str, Any] = Field(default_factory=dict)
    ports: dict[str, Any] = Field(default_factory=dict)
    checks: list[str] = Field(default_factory=list)


class Cluster(Record):
    """A named group of nodes of one workspace."""

    cluster_id: str
    cluster: str
    nodes: list[Any] = Field(default_factory=list)
    init_scripts: list[dict[str, Any]] = Field(default_factory=list)
    creation_time: int = 0
