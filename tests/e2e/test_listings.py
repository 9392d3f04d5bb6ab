"""What the command line lists of the account and of nodes: audit, health history, relays, join tokens."""

import json

from tests.support.sandboxes import Sandbox, wait_until


def test_the_audit_is_listed_newest_first_and_filtered(sandbox: Sandbox) -> None:
    for name in ("audited-1", "audited-2"):
        sandbox.trunkline("cluster", "create", name)
    events = sandbox.json("audit", "list", "--action", "cluster.create", "--limit", "1")["events"]
    assert [event["resource"] for event in events] == ["audited-2"]
    created = sandbox.json("audit", "list", "--action", "cluster.create", "--since", "2020-01-01")["events"]
    assert [event["resource"] for event in created][:2] == ["audited-2", "audited-1"]
    assert sandbox.json("audit", "list", "--until", "2020-01-01T00:00:00Z") == {"events": []}
    table = sandbox.trunkline("audit", "list", "--action", "cluster.create").stdout.decode().splitlines()
    assert table[0].split()[:3] == ["TIME", "ACTOR", "ACTION"]
    assert "cluster.create" in table[1]
    shown = " ".join(table[-1].split()[:2])
    assert sandbox.json("audit", "list", "--action", "cluster.create", "--since", shown)["events"] == created
    assert sandbox.trunkline("audit", "list", "--since", "yesterday", check=False).returncode == 64


def test_the_history_of_a_nodes_health(sandbox: Sandbox) -> None:
    history = wait_until(lambda: sandbox.json("node", "health", "vm-1", "--history")["history"], "there is a history")
    assert history[0]["result"] == "ok"
    assert [one["time"] for one in history] == sorted((one["time"] for one in history), reverse=True)
    assert b"RESULT" in sandbox.trunkline("node", "health", "vm-1", "--history").stdout


def test_relays_are_listed(sandbox: Sandbox) -> None:
    [relay] = sandbox.json("relays", "list")["relays"]
    assert (relay["name"], relay["url"]) == ("relay-1", sandbox.description["relay_url"])
    assert sandbox.trunkline("relays", "delete", "rl-none", "--yes", check=False).returncode == 66


def test_join_tokens_are_listed_without_themselves_and_deleted(sandbox: Sandbox) -> None:
    made = sandbox.json("token", "join", "--node", "listed")
    listed = sandbox.trunkline("join-token", "list", "-o", "json").stdout
    assert made["join_token"].encode() not in listed
    [found] = [one for one in json.loads(listed)["join_tokens"] if one.get("node_name") == "listed"]
    assert (found["uses"], found["used"]) == (1, 0)
    sandbox.trunkline("join-token", "delete", found["join_token_id"], "--yes")
    assert found["join_token_id"].encode() not in sandbox.trunkline("join-token", "list").stdout
