"""Join policies: created once, unknown keys and unbounded ones refused, listed, deleted."""

from typing import Any

import pytest

from tests.support.control_planes import RunningControlPlane

PATH = "/w/finance/api/2.0/join-policies"
WEB = {
    "join_policy": "web",
    "platform": "azure",
    "conditions": {"accounts": ["AAAA"], "resource_groups": ["Web"]},
    "node_name": "web-{name}",
    "labels": {"role": "web"},
    "reattestation": {"mode": "window", "seconds": 3600, "since": "last_seen"},
}


async def test_a_policy_from_creation_to_deletion(plane: RunningControlPlane):
    await plane.workspace()
    created = await plane.call("POST", PATH, WEB)
    assert created.status == 201
    assert created.document["conditions"] == {"accounts": ["aaaa"], "resource_groups": ["web"]}
    again = await plane.call("POST", PATH, WEB)
    assert (again.status, again.document) == (200, created.document)
    assert (await plane.call("POST", PATH, WEB | {"node_name": "other"})).status == 409
    policy_id = created.document["join_policy_id"]
    assert (await plane.ok("GET", f"{PATH}/web")) == (await plane.ok("GET", f"{PATH}/{policy_id}"))
    assert [one["join_policy"] for one in (await plane.ok("GET", PATH))["join_policies"]] == ["web"]
    await plane.ok("DELETE", f"{PATH}/web")
    assert (await plane.call("GET", f"{PATH}/web")).status == 404
    assert (await plane.call("DELETE", f"{PATH}/web")).status == 404
    actions = {event["action"] for event in await plane.audit()}
    assert {"join_policy.create", "join_policy.delete"} <= actions


async def test_the_order_in_which_a_condition_names_its_values_means_nothing(plane: RunningControlPlane):
    await plane.workspace()
    created = await plane.call("POST", PATH, WEB | {"conditions": {"accounts": ["b", "a"], "tags": {"env": "prod"}}})
    again = await plane.call("POST", PATH, WEB | {"conditions": {"tags": {"env": "prod"}, "accounts": ["a", "b"]}})
    assert (created.status, again.status, again.document) == (201, 200, created.document)
    other = await plane.call("POST", PATH, WEB | {"conditions": {"accounts": ["a"], "tags": {"env": "prod"}}})
    assert other.status == 409


@pytest.mark.parametrize(
    "change",
    [
        {"conditions": {}},
        {"conditions": {"regions": ["westeurope"]}},
        {"conditions": {"accounts": []}},
        {"conditions": {"accounts": ["a"], "subscription": ["a"]}},
        {"conditions": {"accounts": "a"}},
        {"conditions": {"accounts": ["a b"]}},
        {"platform": "oracle"},
        {"platform": "aws"},
        {"platform": "gcp", "conditions": {"accounts": ["a"], "tags": {"a": "b"}}},
        {"node_name": "{nothing}"},
        {"node_name": "Web"},
        {"node_name": "{name.__class__}"},
        {"reattestation": {"mode": "window"}},
        {"reattestation": {"mode": "window", "seconds": 0, "since": "last_seen"}},
        {"reattestation": {"mode": "auto", "seconds": 5}},
        {"reattestation": {"mode": "sometimes"}},
        {"cluster": "nowhere"},
        {"priority": 5},
        {"join_policy": "No Name"},
    ],
)
async def test_what_is_refused(plane: RunningControlPlane, change: dict[str, Any]):
    await plane.workspace()
    assert (await plane.call("POST", PATH, WEB | change)).status in (400, 404)
    assert (await plane.ok("GET", PATH))["join_policies"] == []


async def test_a_workspace_takes_its_policies_along(plane: RunningControlPlane):
    await plane.workspace()
    await plane.ok("POST", PATH, WEB)
    await plane.ok("DELETE", f"{plane.account}/workspaces/finance")
    await plane.workspace()
    assert (await plane.ok("GET", PATH))["join_policies"] == []
