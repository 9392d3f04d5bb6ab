import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from node_agent.supervisor.cgroups import AGENT_GROUP

UNIT = Path(__file__).parents[2] / "deploy" / "node-agent" / "trunkline-node-agent.service"


def directives():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    return parser


def test_a_restart_leaves_commands_and_what_they_need_alone():
    service = directives()["Service"]
    assert service["KillMode"] == "process"
    assert service["RuntimeDirectoryPreserve"] == "yes", "secrets in files of commands that go on"


def test_control_groups_are_the_agents_to_make():
    service = directives()["Service"]
    assert (service["Delegate"], service["DelegateSubgroup"]) == ("yes", AGENT_GROUP)
    assert service["ProtectControlGroups"] == "no", "they are mounted read-only otherwise"
    assert service["TasksMax"] == "infinity", "one command must not take the tasks of the agent"


def test_the_agent_comes_before_its_commands():
    service = directives()["Service"]
    assert int(service["Nice"]) < 0
    assert int(service["OOMScoreAdjust"]) < 0
    assert int(service["CPUWeight"]) > 100


def test_a_start_may_wait_as_long_as_an_outage():
    service = directives()["Service"]
    assert (service["Type"], service["TimeoutStartSec"]) == ("notify", "infinity")


def test_no_daemon_leaves_a_core_file_with_its_keys():
    limits = {
        unit.name: re.findall("(?m)^LimitCORE=(.*)$", unit.read_text()) for unit in UNIT.parents[1].glob("*/*.service")
    }
    assert limits == {
        "trunkline-control-plane.service": ["0"],
        "trunkline-node-agent.service": ["0:infinity"],
        "trunkline-relay.service": ["0"],
    }


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_it(tmp_path):
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/trunkline/bin/trunkline", "/bin/true"))
    command = ["systemd-analyze", "verify", str(unit)]
    checked = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    # Releases before 254 do not know this one, and do without it.
    said = [line for line in checked.stderr.splitlines() if "DelegateSubgroup" not in line]
    assert (checked.returncode, said) == (0, [])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_it_is_hardened():
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=40", str(UNIT)]
    assert subprocess.run(command, check=False, capture_output=True, timeout=30).returncode == 0
