"""`trunkline lock`."""

from __future__ import annotations

import json
import os

import pytest

from tests.support.fake_control_plane import FakeControlPlane
from tests.trunkline.cli.conftest import Trunkline
from tests.trunkline.cli.test_revoke import DONE, WAITING


def test_a_lock_is_made_for_a_time_and_waited_for(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1")
    fake.adoptions = [WAITING, DONE]
    outcome = trunkline("lock", "node", "vm-1", "--for", "2h", "--reason", "odd traffic")
    assert outcome.status == 0
    lines = outcome.stdout.decode().splitlines()
    assert lines[0] == "lk-1 locks node nd-vm-1 until 2027-01-15 10:00:00Z"
    assert lines[-1].startswith("in force at 2 relays after 1.50 s")
    [body] = [body for method, path, body in fake.requests if method == "POST"]
    assert body == {"kind": "node", "id": "nd-vm-1", "lifetime_seconds": 7200, "reason": "odd traffic"}


def test_whoever_has_not_reported_makes_the_status_75(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.adoptions = [WAITING]
    command = ("lock", "token", "jti-1", "--for", "90s", "--reason", "odd", "--timeout", "0")
    assert trunkline(*command).status == os.EX_TEMPFAIL
    assert trunkline(*command, "--no-wait").status == 0
    said = trunkline(*command, "-o", "json")
    assert json.loads(said.stdout)["adoption"]["complete"] is False


def test_list_get_and_lift(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    listed = trunkline("lock", "list").stdout.decode()
    assert "IN_FORCE" in listed
    assert "2027-01-15 10:00:00Z" in listed
    trunkline("lock", "list", "--all")
    assert "ended=true" in fake.requests[-1][1]
    assert json.loads(trunkline("lock", "get", "lk-1", "-o", "json").stdout)["lock_id"] == "lk-1"
    assert trunkline("lock", "lift", "lk-1").stdout == b"lifted: node nd-1 (trust document 9)\n"
    assert fake.requests[-1][:2] == ("DELETE", "/api/2.0/locks/lk-1")


@pytest.mark.parametrize("duration", ["", "2", "2 h", "h", "1h!", "-1h", "0s", "1w"])
def test_what_is_no_duration(trunkline: Trunkline, duration: str) -> None:
    outcome = trunkline("lock", "node", "vm-1", "--for", duration, "--reason", "odd")
    assert outcome.status == os.EX_USAGE


@pytest.mark.parametrize("missing", ["--for", "--reason"])
def test_a_lock_has_an_end_and_a_reason(trunkline: Trunkline, missing: str) -> None:
    options = {"--for": "1h", "--reason": "odd"}
    del options[missing]
    given = [word for pair in options.items() for word in pair]
    assert trunkline("lock", "node", "vm-1", *given).status == os.EX_USAGE
