"""What the daemons of a sandbox are told."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from trunkline.sandbox.layout import Layout, node_names
from trunkline.sandbox.settings_files import (
    Ports,
    write_agent_settings,
    write_control_plane_settings,
    write_policy,
    write_relay_settings,
)
from trunkline.sandbox.toml import Table, render_toml


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "state")
    layout.make(node_names(2), ["relay", "relay-2"])
    return layout


def read(path: Path) -> dict[str, object]:
    assert path.stat().st_mode & 0o777 == 0o600
    return tomllib.loads(path.read_text())


def test_directories_are_their_owners_alone(layout: Layout) -> None:
    for directory in (layout.root, layout.log_directory, layout.relay("relay-2"), layout.node("vm-2")):
        assert directory.stat().st_mode & 0o777 == 0o700


def test_control_plane(layout: Layout) -> None:
    write_control_plane_settings(
        layout,
        Ports(8443, 9466),
        authority_url="https://localhost:5",
        metadata_url="http://127.0.0.1:6",
        name_suffix="trunk.internal",
    )
    table = read(layout.control_plane / "config.toml")
    assert table["listen"] == {"address": "127.0.0.1", "port": 8443}
    assert table["admin"] == {"address": "127.0.0.1", "port": 9466}
    assert table["state_directory"] == str(layout.control_plane / "state")


def test_relay(layout: Layout) -> None:
    for role in ("relay", "relay-2"):
        write_relay_settings(
            layout, role, Ports(), control_plane_url="https://localhost:1", name_suffix="trunk.internal"
        )
    second = read(layout.relay("relay-2") / "config.toml")["enrolment"]
    assert second == {"name": "relay-2", "join_token_file": str(layout.relay("relay-2") / "join-token")}
    table = read(layout.relay("relay") / "config.toml")
    first = {"name": "relay-1", "join_token_file": str(layout.relay("relay") / "join-token")}
    assert table["enrolment"] == first
    assert table["listen"] == {"address": "127.0.0.1", "port": 0}
    assert table["control_plane"] == {
        "url": "https://localhost:1",
        "ca_file": str(layout.root / "control-plane/state/ca.pem"),
    }


def test_each_machine_has_an_identity_of_its_own(layout: Layout) -> None:
    for node in ("vm-1", "vm-2"):
        write_agent_settings(
            layout,
            node,
            Ports(),
            control_plane_url="https://localhost:1",
            metadata_url="http://127.0.0.1:2",
            authority_url="https://localhost:3",
            platform="aws",
        )
        bootstrap = read(layout.node(node) / "config.toml")["bootstrap"]
        assert isinstance(bootstrap, dict)
        assert bootstrap["metadata_url"] == f"http://127.0.0.1:2/{node}"
        assert bootstrap["node_name"] == node
        assert (bootstrap["method"], bootstrap["aws_sts_host"]) == ("aws", "localhost:3")


def test_a_policy_is_its_owners_once_it_is_there(layout: Layout) -> None:
    write_policy(layout, "vm-1", [8000])
    path = layout.node("vm-1") / "policy.toml"
    assert read(path) == {"ports": {"8000": {"shared": True}}, "commands": {"block_metadata": "off"}}
    path.write_text("# mine\n")
    write_policy(layout, "vm-1", [9000])
    assert path.read_text() == "# mine\n"


def test_toml_of_every_kind_of_value_reads_back() -> None:
    table: Table = {
        "a": 'q"\\\n\x7fü',
        "b": 1,
        "c": 2.5,
        "d": True,
        "e": ["x", "y"],
        "t": {"k": "v", "u": {"w": False, "x": {"y": 1}}},
    }
    assert tomllib.loads(render_toml(table, "heading")) == table
