"""The rules as text, and the rules tried for real in a network namespace of their own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from node_agent.protection.iptables import FAMILIES, rules
from node_agent.protection.nftables import removal, ruleset

SCRIPT = Path(__file__).with_name("blocked_network.py")
EVERYWHERE = {"169.254.169.254 80", "169.254.169.254 53", "169.254.170.2 80", "fd00:ec2::254 80", "168.63.129.16 80",
              "168.63.129.16 8080", "127.0.0.1 80"}  # fmt: skip
LEFT_OPEN = {"169.254.169.254 53", "168.63.129.16 8080", "127.0.0.1 80"}


def test_the_table_is_replaced_in_one_transaction_and_matches_users_only():
    text = ruleset("trunkline_x", {1001, 65534})
    lines = [line.strip() for line in text.splitlines()]
    assert lines[:3] == ["table inet trunkline_x", "delete table inet trunkline_x", "table inet trunkline_x {"]
    matched = [line for line in lines if "reject" in line or line.endswith(" accept")]
    assert len(matched) == 4
    assert all(line.startswith("meta skuid { 1001, 65534 } ") for line in matched)
    assert "169.254.169.254" in text
    assert "fd00:ec2::254" in text
    assert "168.63.129.16 tcp dport { 80, 32526 } reject" in text
    assert removal("trunkline_x").splitlines() == lines[:2]


def test_a_chain_is_emptied_and_filled_for_each_user():
    for family in FAMILIES:
        lines = rules(family, "TRUNKLINE-x", {1001, 65534}).splitlines()
        assert lines[:2] == ["*filter", ":TRUNKLINE-x - [0:0]"]
        assert lines[-1] == "COMMIT"
        for uid in ("1001", "65534"):
            of_user = [line for line in lines[2:-1] if f" --uid-owner {uid} " in line]
            assert [line.endswith("-j RETURN") for line in of_user[:2]] == [True, True]
            assert all("-j REJECT" in line for line in of_user[2:])
            assert {str(address) for address in family.addresses} <= {word for line in of_user for word in line.split()}
        assert all(line.startswith("-A TRUNKLINE-x -m owner --uid-owner ") for line in lines[2:-1])


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="a network namespace needs root")
@pytest.mark.parametrize(("kind", "tool"), [("nftables", "nft"), ("iptables", "iptables")])
def test_for_real(kind, tool):
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = ["unshare", "--net", sys.executable, str(SCRIPT), kind]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=50, env=environment)
    if done.returncode or "unavailable" in done.stdout:
        pytest.skip(f"this machine does not let us: {done.stdout}{done.stderr[-300:]}")
    said = json.loads(done.stdout)
    removed, left = said.pop("of_killed")
    assert (removed, "runkline" in left.lower()) == (1, False)
    found = {name: set(value) if isinstance(value, list) else value for name, value in said.items()}
    assert found["before"] == found["root"] == found["other"] == found["removed"] == EVERYWHERE
    assert found["nobody"] == found["again"] == LEFT_OPEN
    assert (found["intact"], found["flushed"]) == (True, False)
    assert "runkline" not in found["left"].lower()
