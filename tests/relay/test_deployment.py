"""What operators install: the unit is hardened, the example settings are the defaults that they say they are."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from relay.settings import ENVIRONMENT_PREFIX, RelaySettings
from trunkline.runtime.settings import load_settings

DIRECTORY = Path(__file__).parents[2] / "deploy" / "relay"
UNIT = DIRECTORY / "trunkline-relay.service"
EXAMPLE = DIRECTORY / "relay.toml"


def test_the_example_is_valid_and_states_the_defaults() -> None:
    shown = load_settings(RelaySettings, EXAMPLE, {}, prefix=ENVIRONMENT_PREFIX)
    least = {
        f"{ENVIRONMENT_PREFIX}__STATE_DIRECTORY": str(shown.state_directory),
        f"{ENVIRONMENT_PREFIX}__CONTROL_PLANE__URL": shown.control_plane.url,
    }
    defaults = load_settings(RelaySettings, None, least, prefix=ENVIRONMENT_PREFIX)
    differing = {name for name in RelaySettings.model_fields if getattr(shown, name) != getattr(defaults, name)}
    assert differing == {"enrolment"}
    assert shown.enrolment.name == "relay-1"


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
    assert {"Type=notify", "TimeoutStartSec=infinity", "NoNewPrivileges=yes", "StateDirectoryMode=0700"} <= set(lines)
