"""What operators install: the unit is hardened, the example settings are the defaults that they say they are."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from control_plane.settings import ControlPlaneSettings
from trunkline.runtime.settings import load_settings

DIRECTORY = Path(__file__).parents[2] / "deploy" / "control-plane"
UNIT = DIRECTORY / "trunkline-control-plane.service"
EXAMPLE = DIRECTORY / "control-plane.toml"


def test_the_example_is_valid_and_states_the_defaults():
    shown = load_settings(ControlPlaneSettings, EXAMPLE, {}, prefix="TRUNKLINE_CONTROL_PLANE")
    least = {"TRUNKLINE_CONTROL_PLANE__STATE_DIRECTORY": str(shown.state_directory)}
    defaults = load_settings(ControlPlaneSettings, None, least, prefix="TRUNKLINE_CONTROL_PLANE")
    differing = {name for name in ControlPlaneSettings.model_fields if getattr(shown, name) != getattr(defaults, name)}
    assert differing == {"identity"}
    assert shown.identity.dns_names == ["control.example"]


def test_the_example_names_every_setting():
    document = tomllib.loads(EXAMPLE.read_text())
    for section in ("listen", "admin", "log", "identity", "rotation", "tokens", "health", "commands", "limits"):
        model = ControlPlaneSettings.model_fields[section].annotation
        assert model is not None
        assert set(document[section]) == set(model.model_fields), section


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_is_hardened():
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-400:] + done.stderr


def test_the_unit_runs_the_daemon_as_nobody_special():
    lines = UNIT.read_text().splitlines()
    assert "Type=notify" in lines
    assert "CapabilityBoundingSet=" in lines
    assert "NoNewPrivileges=yes" in lines
    assert "ProtectHome=tmpfs" in lines  # PostgreSQL's driver dials nothing where it may not look into a home
    assert {"StateDirectoryMode=0700", "RuntimeDirectoryMode=0700"} <= set(lines)
