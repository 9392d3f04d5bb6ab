"""The settings files of a sandbox's daemons.

The first start lets the system pick every port; what it picked is then written here, so that a daemon that is started
again is found where it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trunkline.runtime.files import write_atomic
from trunkline.sandbox.emulated_documents import AWS_SIGNER, AZURE_SIGNER
from trunkline.sandbox.emulated_machines import (
    AWS_ACCOUNT,
    AWS_REGION,
    CONTROL_PLANE,
    DOCUMENT_HOST,
    GCP_ISSUER_PATH,
    GCP_KEYS_PATH,
    GCP_PROJECT,
    TENANT,
)
from trunkline.sandbox.layout import Layout
from trunkline.sandbox.toml import Table, render_toml

LOOPBACK = "127.0.0.1"
HOST = "localhost"
AUDIENCE = "api://trunkline-sandbox"
HEALTH_SECONDS = 2.0
RENEW_WITHIN_SECONDS = 2
DRAIN_SECONDS = 3.0
_HEADING = "Written by `trunkline up`, for development only; it is written again at each start."
_POLICY_HEADING = "What this node's owner allows. Yours to change: send the agent SIGHUP, or start it again."


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of a daemon; 0 until the system has picked one."""

    service: int = 0
    admin: int = 0


def write_control_plane_settings(
    layout: Layout, ports: Ports, *, authority_url: str, metadata_url: str, name_suffix: str
) -> None:
    """Write the control plane's settings; it believes the emulated clouds."""
    table: Table = {
        **_common(layout.control_plane.name, layout, ports),
        "listen": {"address": LOOPBACK, "port": ports.service},
        "identity": {"dns_names": [HOST], "name_suffix": name_suffix},
        "health": {"interval_seconds": HEALTH_SECONDS},
        "rotation": {"renew_within_seconds": RENEW_WITHIN_SECONDS},
        "limits": {"drain_seconds": DRAIN_SECONDS},
        "bootstrap": _bootstrap(layout, authority_url, metadata_url),
    }
    _write(layout, "control-plane/config.toml", table)


def _bootstrap(layout: Layout, authority_url: str, metadata_url: str) -> Table:
    ca = str(layout.identity / "ca.pem")
    return {
        "azure": {
            "audience": AUDIENCE,
            "tenants": [TENANT],
            "document_roots_file": str(layout.identity / f"{AZURE_SIGNER}-roots.pem"),
            "document_host": DOCUMENT_HOST,
            "resource_manager_url": authority_url,
            "metadata_url": f"{metadata_url}/{CONTROL_PLANE}",
            "authority_url": authority_url,
            "ca_file": ca,
        },
        "aws": {
            "accounts": [AWS_ACCOUNT],
            "certificate_files": {AWS_REGION: str(layout.identity / f"{AWS_SIGNER}-roots.pem")},
            "sts_url": authority_url,
            "ca_file": ca,
        },
        "gcp": {
            "audience": AUDIENCE,
            "projects": [GCP_PROJECT],
            "issuer_url": authority_url + GCP_ISSUER_PATH,
            "keys_url": authority_url + GCP_KEYS_PATH,
            "ca_file": ca,
        },
    }


def write_relay_settings(layout: Layout, role: str, ports: Ports, *, control_plane_url: str, name_suffix: str) -> None:
    """Write a relay's settings."""
    table: Table = {
        **_common(role, layout, ports),
        "listen": {"address": LOOPBACK, "port": ports.service},
        "control_plane": {"url": control_plane_url, "ca_file": str(ca_file(layout))},
        "enrolment": {"join_token_file": str(layout.relay(role) / "join-token"), "name": relay_name(role)},
        "names": {"suffix": name_suffix},
        "limits": {"drain_lead_seconds": 0, "drain_seconds": DRAIN_SECONDS, "return_seconds": 2.0},
    }
    _write(layout, f"{role}/config.toml", table)


def relay_name(role: str) -> str:
    """The name under which the relay of a role enrols."""
    return "relay-1" if role == "relay" else role


def write_agent_settings(
    layout: Layout,
    node: str,
    ports: Ports,
    *,
    control_plane_url: str,
    metadata_url: str,
    authority_url: str,
    platform: str,
) -> None:
    """Write an agent's settings; it proves what it is by the emulated metadata service."""
    sts = {"aws_sts_host": authority_url.partition("://")[2]}
    bootstrap: Table = {
        "method": platform,
        "node_name": node,
        "metadata_url": f"{metadata_url}/{node}",
        **(sts if platform == "aws" else {"audience": AUDIENCE}),
    }
    table: Table = {
        **_common(f"nodes/{node}", layout, ports),
        "drain_seconds": DRAIN_SECONDS,
        "control_plane": {"url": control_plane_url, "ca_file": str(ca_file(layout))},
        "bootstrap": bootstrap,
        "policy": {"file": str(layout.node(node) / "policy.toml")},
    }
    _write(layout, f"nodes/{node}/config.toml", table)


def write_policy(layout: Layout, node: str, ports: list[int]) -> None:
    """Write a node's policy, unless its owner has one already: these ports, shared with workspace tokens.

    The firewall of a developer's machine is left alone.
    """
    path = layout.node(node) / "policy.toml"
    if not path.exists():
        rules: Table = {"ports": {str(port): {"shared": True} for port in ports}, "commands": {"block_metadata": "off"}}
        write_atomic(path, render_toml(rules, _POLICY_HEADING).encode())


def ca_file(layout: Layout) -> Path:
    """The roots that everything in the sandbox trusts."""
    return layout.control_plane / "state" / "ca.pem"


def operator_token_file(layout: Layout) -> Path:
    """The operator's token, made by `trunkline control-plane init`."""
    return layout.control_plane / "state" / "operator-token"


def _common(place: str, layout: Layout, ports: Ports) -> Table:
    return {
        "state_directory": str(layout.root / place / "state"),
        "admin": {"address": LOOPBACK, "port": ports.admin},
        "log": {"format": "console"},
    }


def _write(layout: Layout, name: str, table: Table) -> None:
    write_atomic(layout.root / name, render_toml(table, _HEADING).encode())
