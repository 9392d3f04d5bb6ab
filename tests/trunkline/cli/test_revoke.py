"""`trunkline revoke`: waits until it is everywhere, says what was cut, and who has not reported."""

from __future__ import annotations

import json
import os

from tests.support.fake_control_plane import FakeControlPlane
from tests.trunkline.cli.conftest import Trunkline

RELAY = {
    "relay_id": "rl-1", "name": "relay-1", "sequence": 7, "time": 1, "after_milliseconds": 42, "cut_milliseconds": 1,
    "links": 1, "streams": 2, "exchanges": 0,
}  # fmt: skip
DONE = {
    "complete": True,
    "relays": [RELAY, {**RELAY, "name": "relay-2", "after_milliseconds": 1500, "links": 0, "exchanges": 1}],
    "nodes": [{"node_id": "nd-1", "node": "vm-1", "streams": 2, "exchanges": 1}],
}
WAITING = {
    "complete": False,
    "relays": [RELAY],
    "waiting_relays": [{"relay_id": "rl-2", "name": "relay-2", "following": False}],
    "waiting_relay_count": 1,
    "waiting_nodes": [{"node_id": f"nd-{number}", "node": f"vm-{number}"} for number in range(100)],
    "waiting_node_count": 250,
}


def test_it_waits_and_says_what_was_cut(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.adoptions = [WAITING, WAITING, DONE]
    outcome = trunkline("revoke", "token", "jti-1")
    assert outcome.status == 0
    assert outcome.stdout.decode().splitlines() == [
        "revoked token jti-1 (trust document 7)",
        "relay relay-1: cut 1 link, 2 streams, 0 exchanges, reported after 0.04 s",
        "relay relay-2: cut 0 links, 2 streams, 1 exchange, reported after 1.50 s",
        "node vm-1: cut 2 streams, 1 exchange",
        "in force at 2 relays after 1.50 s, which cut 1 link, 4 streams, 1 exchange",
    ]
    assert [path for method, path, _ in fake.requests if method == "GET"] == ["/api/2.0/revocations/token/jti-1"] * 3


def test_whoever_has_not_reported_is_named_and_the_status_is_75(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.adoptions = [WAITING]
    outcome = trunkline("revoke", "token", "jti-1", "--timeout", "0")
    assert outcome.status == os.EX_TEMPFAIL
    assert outcome.stdout.startswith(b"revoked token jti-1")
    assert "relay relay-2 (not connected to the control plane), node vm-0, " in outcome.stderr
    assert outcome.stderr.endswith("node vm-9 and 240 more\n")


def test_it_need_not_wait(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.adoptions = [WAITING]
    outcome = trunkline("revoke", "token", "jti-1", "--no-wait")
    assert (outcome.status, outcome.stdout) == (0, b"revoked token jti-1 (trust document 7)\n")


def test_json_has_the_adoption_also_when_it_is_incomplete(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.adoptions = [WAITING]
    outcome = trunkline("revoke", "token", "jti-1", "--timeout", "0", "-o", "json")
    assert outcome.status == os.EX_TEMPFAIL
    said = json.loads(outcome.stdout)
    assert (said["sequence"], said["adoption"]["waiting_node_count"]) == (7, 250)


def test_nodes_and_workspaces_go_by_name_or_id(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1")
    deleted = "nd-" + "a" * 20
    for arguments in (("node", "vm-1"), ("node", deleted), ("workspace", "main")):
        assert trunkline("revoke", *arguments).status == 0
    bodies = [body for method, _, body in fake.requests if method == "POST"]
    assert [body["id"] for body in bodies] == ["nd-vm-1", deleted, "ws-1"]
    assert trunkline("revoke", "node", "vm-9").status == os.EX_NOINPUT
