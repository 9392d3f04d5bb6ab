import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "deploy" / "node-agent" / "trunkline-node-agent.service"


def directives():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    return parser


def test_only_the_agent_itself_is_signalled():
    assert directives()["Service"]["KillMode"] == "process"


def test_a_start_may_wait_as_long_as_an_outage():
    service = directives()["Service"]
    assert (service["Type"], service["TimeoutStartSec"]) == ("notify", "infinity")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_it(tmp_path):
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/trunkline/bin/trunkline", "/bin/true"))
    command = ["systemd-analyze", "verify", str(unit)]
    checked = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_it_is_hardened():
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=40", str(UNIT)]
    assert subprocess.run(command, check=False, capture_output=True, timeout=30).returncode == 0
