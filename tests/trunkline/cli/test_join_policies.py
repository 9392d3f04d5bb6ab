"""`trunkline join-policy` and `trunkline join-request`: what options become, and what is printed."""

from __future__ import annotations

import json
import os

from tests.support.fake_control_plane import FakeControlPlane
from tests.trunkline.cli.conftest import Trunkline

POLICIES = "/w/main/api/2.0/join-policies"


def test_options_become_rules(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    outcome = trunkline(
        *("join-policy", "create", "web", "--platform", "azure", "--account", "a", "--account", "b"),
        *("--resource-group", "rg", "--tag", "env=prod", "--node-name", "web-{name}", "--label", "role=web"),
        *("--reattest", "window", "--window", "3600", "--since", "last-seen", "-o", "json"),
    )
    assert outcome.status == 0, outcome.stderr
    assert json.loads(outcome.stdout)["join_policy_id"] == "jp-1"
    [(method, path, body)] = [request for request in fake.requests if request[0] == "POST"]
    assert (method, path) == ("POST", POLICIES)
    assert body == {
        "join_policy": "web",
        "platform": "azure",
        "conditions": {"accounts": ["a", "b"], "resource_groups": ["rg"], "tags": {"env": "prod"}},
        "node_name": "web-{name}",
        "labels": {"role": "web"},
        "reattestation": {"mode": "window", "seconds": 3600, "since": "last_seen"},
    }


def test_list_get_delete(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    assert b"jp-1" in trunkline("join-policy", "list").stdout
    assert b"azure" in trunkline("join-policy", "get", "web").stdout
    assert trunkline("join-policy", "delete", "web", "--yes").stdout == b"deleted web\n"
    assert [request[:2] for request in fake.requests][-1] == ("DELETE", f"{POLICIES}/web")


def test_requests_are_listed_and_decided(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    assert b"jq-1" in trunkline("join-request", "list", "--only", "pending").stdout
    assert "state=pending" in fake.requests[-1][1]
    for verb in ("approve", "deny"):
        assert verb.encode() in trunkline("join-request", verb, "jq-1").stdout


def test_wrong_usage(trunkline: Trunkline) -> None:
    for arguments in (["create", "web"], ["create", "web", "--platform", "oracle"], ["get"]):
        assert trunkline("join-policy", *arguments).status == os.EX_USAGE
