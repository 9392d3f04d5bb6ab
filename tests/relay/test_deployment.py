"""What operators install: the unit is hardened, the example settings are the defaults that they say they are."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from relay.settings import ENVIRONMENT_PREFIX, RelaySettings
from trunkline.runtime.settings import load_settings

ROOT = Path(__file__).parents[2]
DIRECTORY = ROOT / "deploy" / "relay"
UNIT = DIRECTORY / "trunkline-relay.service"
EXAMPLE = DIRECTORY / "relay.toml"


def test_the_example_is_valid_and_states_the_defaults(tmp_path: Path) -> None:
    ca_file, example = tmp_path / "ca.pem", tmp_path / "relay.toml"
    ca_file.touch()
    example.write_text(EXAMPLE.read_text().replace('"/etc/trunkline/ca.pem"', f'"{ca_file}"'))
    shown = load_settings(RelaySettings, example, {}, prefix=ENVIRONMENT_PREFIX)
    least = {
        f"{ENVIRONMENT_PREFIX}__STATE_DIRECTORY": str(shown.state_directory),
        f"{ENVIRONMENT_PREFIX}__CONTROL_PLANE__URL": shown.control_plane.url,
        f"{ENVIRONMENT_PREFIX}__CONTROL_PLANE__CA_FILE": str(ca_file),
    }
    defaults = load_settings(RelaySettings, None, least, prefix=ENVIRONMENT_PREFIX)
    differing = {name for name in RelaySettings.model_fields if getattr(shown, name) != getattr(defaults, name)}
    assert differing == {"enrolment"}
    assert shown.enrolment.name == "relay-1"


def test_what_is_installed_is_what_the_settings_name() -> None:
    """The commands of docs/operations.md put the files where the examples look for them."""
    installed = (ROOT / "docs" / "operations.md").read_text()
    for example in (EXAMPLE, ROOT / "deploy" / "node-agent" / "node-agent.toml"):
        ca_file = tomllib.loads(example.read_text())["control_plane"]["ca_file"]
        directory, _, name = ca_file.rpartition("/")
        assert f" {name} {directory}/\n" in installed


def test_the_example_names_every_setting() -> None:
    document = tomllib.loads(EXAMPLE.read_text())
    for section in ("listen", "admin", "log", "enrolment", "names", "limits", "reports", "metrics"):
        model = RelaySettings.model_fields[section].annotation
        assert model is not None
        assert set(document[section]) == set(model.model_fields), section


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_is_hardened() -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-400:] + done.stderr


def test_a_start_may_wait_for_the_control_plane() -> None:
    lines = UNIT.read_text().splitlines()
    assert {
        "Type=notify",
        "TimeoutStartSec=infinity",
        "NoNewPrivileges=yes",
        "StateDirectoryMode=0700",
        "RuntimeDirectoryMode=0700",
    } <= set(lines)
