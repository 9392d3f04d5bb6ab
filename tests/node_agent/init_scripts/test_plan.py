"""Plans as documents of a machine: what is taken, what is refused, and that no content is in a message."""

import json
from typing import Any

import pytest

from node_agent.init_scripts.plan import PlanRefused, parse_plan, read_plan
from tests.node_agent.init_scripts.conftest import entry, handed


def test_a_plan_is_read_and_what_a_later_release_says_is_ignored():
    secrets = {"environment": {"A": "db/password"}}
    document = handed(run=3, clusters=[{"cluster_id": "cl-1", "cluster": "red", "new": 1}], driver=True, new={})
    document["scripts"] = [entry("a", b"\x00\xff") | {"secrets": secrets, "new": []}]
    plan = read_plan(document)
    assert (plan.run, plan.driver, plan.clusters[0].cluster) == (3, True, "red")
    assert (plan.scripts[0].script, plan.scripts[0].cluster_id) == (b"\x00\xff", None)
    assert plan.scripts[0].secrets is not None
    assert plan.scripts[0].secrets.named() == {"db/password"}
    assert parse_plan(json.dumps(document).encode()) == plan


@pytest.mark.parametrize(
    "change",
    [
        {"script": "c2VjcmV0"},
        {"script": "no base64"},
        {"script": 7},
        {"script": ""},
        {"script": "eHh4" * 30_000},
        {"sha256": "0" * 64},
        {"script_id": "../../etc"},
        {"script_id": "is-short"},
        {"name": ""},
        {"secrets": {"environment": {"TRUNKLINE_X": "a/b"}}},
    ],
)
def test_a_script_that_is_none_is_refused(change: dict[str, Any]):
    with pytest.raises(PlanRefused) as refused:
        read_plan({"run": 1, "scripts": [entry("a", b"true") | change]})
    assert "c2VjcmV0" not in str(refused.value)
    assert "secret" not in str(refused.value).replace("secrets", "")


@pytest.mark.parametrize(
    "document",
    [None, [], {}, {"run": 0}, {"run": "1"}, {"run": 1, "scripts": {}}, {"run": 1, "scripts": [entry("a", b"x")] * 2}],
)
def test_what_is_no_plan_is_refused(document: Any):
    with pytest.raises(PlanRefused):
        read_plan(document)


@pytest.mark.parametrize("content", [b"", b"\xff", b"{", b"[" * 100_000])
def test_a_damaged_file_is_refused(content: bytes):
    with pytest.raises(PlanRefused):
        parse_plan(content)
