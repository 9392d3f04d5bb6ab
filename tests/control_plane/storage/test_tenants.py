"""Of two workspaces, what is asked of the one is of it, and changes nothing else: machines, secrets, scripts, audit.

Each test looks at one workspace, or at one thing in it; the other, and the thing's neighbours, are there to be missed.
"""

import pytest
from sqlalchemy import inspect
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage import (
    accounts,
    audit,
    clusters,
    forgetting,
    health,
    init_scripts,
    join_policies,
    join_requests,
    join_tokens,
    nodes,
    secret_grants,
    secrets,
    submissions,
    workspaces,
)
from control_plane.storage.audit import Actor, AuditFilter, Happening
from control_plane.storage.nodes import NodeFilter
from control_plane.storage.records.joining import JoinRequest
from control_plane.storage.records.nodes import Node
from control_plane.storage.records.relays import RelayJoinToken
from control_plane.storage.submissions import SubmissionKey
from tests.support.tenants import NAMES, NOW_MS, WORKSPACES, A, B, everything, gone, machines, made_id, names, rows


async def test_secrets_and_scopes(tenants: AsyncSession) -> None:
    assert names(await secrets.list_scopes(tenants, A, after=None, most=9), "scope") == list(NAMES)
    assert names(await secrets.list_scopes(tenants, A, after="one", most=1), "scope") == ["three"]
    assert await secrets.count_scopes(tenants, A) == 3
    wanted = [("one", "two"), ("two", "one"), ("two", "none")]
    found = await secrets.find_named(tenants, A, wanted)
    assert sorted(zip(names(found, "scope"), names(found, "key"), strict=True)) == wanted[:2]
    assert names(await secrets.list_page(tenants, A, "one", after="one", most=1), "key") == ["three"]
    page = await secrets.list_page(tenants, A, "one", after=None, most=9)
    assert (names(page, "scope"), names(page, "key")) == (["one"] * 3, list(NAMES))
    found = await secrets.of_scopes(tenants, A, ["one", "two"])
    assert names(found, "scope") == ["one"] * 3 + ["two"] * 3
    every = [(scope, key, 1) for scope in NAMES for key in NAMES]
    assert await secrets.versions(tenants, [A]) == {A: every}
    assert await secrets.totals(tenants, A) == (9, 90)
    assert [key.key_id for key in await secrets.data_keys_not_under(tenants, "key-a", most=9)] == ["key-b"]


async def test_a_scope_goes_with_what_is_in_it(tenants: AsyncSession) -> None:
    before = await everything(tenants)
    await secrets.remove_scope(tenants, A, "one")
    assert await gone(tenants, before) == {
        "secret_scopes": {(A, "one")},
        "secrets": {(A, "one", key) for key in NAMES},
        "secret_grants": {(made_id("sg", "a", "one"),)},
    }


async def test_grants(tenants: AsyncSession) -> None:
    assert names(await secret_grants.of_scope(tenants, A, "one"), "grant_id") == [made_id("sg", "a", "one")]
    one, two = (made_id("nd", "a", name) for name in ("one", "two"))
    secret_grants.add(
        tenants, B, "three", secret_grants.Grantee(selector={}), now_ms=1, created_by="me"
    )  # to every node of the other
    cluster = secret_grants.Grantee(cluster_id=made_id("cl", "a", "one"))
    secret_grants.add(tenants, A, "two", cluster, now_ms=1, created_by="me")
    await tenants.flush()
    granted = await secret_grants.granted_scopes(tenants, {one: A, two: A})
    assert granted == {one: frozenset({"one", "two"}), two: frozenset({"two"})}


async def test_clusters(tenants: AsyncSession) -> None:
    one = made_id("cl", "a", "one")
    for address in ("one", one):
        found = await clusters.find(tenants, A, address)
        assert found is not None
        assert found.cluster_id == one
    assert await clusters.find(tenants, B, one) is None
    assert names(await clusters.list_page(tenants, A, after=None, most=9), "cluster") == list(NAMES)
    assert names(await clusters.list_page(tenants, A, after="one", most=1), "cluster") == ["three"]
    three = made_id("cl", "a", "three")
    assert await clusters.members(tenants, [one, three]) == {one: ["one"], three: ["one", "three"]}
    assert set(await clusters.member_ids(tenants, three)) == {made_id("nd", "a", name) for name in ("one", "three")}


async def test_members_leave_their_cluster_alone(tenants: AsyncSession) -> None:
    before = await everything(tenants)
    cluster_id, node_id = made_id("cl", "a", "three"), made_id("nd", "a", "one")
    await clusters.remove_members(tenants, cluster_id, [node_id])
    assert await gone(tenants, before) == {"cluster_members": {(cluster_id, node_id)}}


async def test_a_cluster_goes_with_its_scripts_and_its_nodes_stay(tenants: AsyncSession) -> None:
    before = await everything(tenants)
    cluster_id = made_id("cl", "a", "one")
    await clusters.remove(tenants, cluster_id)
    assert await gone(tenants, before) == {
        "clusters": {(cluster_id,)},
        "cluster_members": {(cluster_id, made_id("nd", "a", "one"))},
        "init_scripts": {(made_id("is", "a", f"{name}c"),) for name in NAMES},
    }


async def test_nodes(tenants: AsyncSession) -> None:
    one = made_id("nd", "a", "one")
    for found in (
        await nodes.find(tenants, A, "one"),
        await nodes.find(tenants, A, one),
        await nodes.find_attested(tenants, A, "machine-one"),
    ):
        assert found is not None
        assert found.node_id == one
    assert await nodes.find(tenants, B, one) is None
    assert [node.node_id for node in await nodes.find_by_resource(tenants, "resource-a-one")] == [one]
    tenants.add(_renamed(await nodes.find(tenants, B, "one"), "only-b"))
    assert await nodes.taken_names(tenants, A, ["one", "two", "only-b"]) == {"one", "two"}
    assert [node.node_id for _, node in await nodes.places(tenants, [one])] == [one]
    found_extras = await nodes.extras(tenants, [one])
    assert found_extras == {one: nodes.NodeExtras({"env": "one", "role": "one"}, list(NAMES))}


def _renamed(node: Node | None, name: str) -> Node:
    assert node is not None
    node.node = name
    return node


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (NodeFilter(), list(NAMES)),
        (NodeFilter(state="offline"), ["three", "two"]),
        (NodeFilter(cluster="three"), ["one", "three"]),
        (NodeFilter(cluster=made_id("cl", "a", "three")), ["one", "three"]),
        (NodeFilter(cluster=made_id("cl", "b", "three")), []),
        (NodeFilter(labels={"env": "one"}), ["one"]),
        (NodeFilter(labels={"env": "one", "role": "one"}), ["one"]),
        (NodeFilter(labels={"env": "one", "role": "two"}), []),
    ],
)
async def test_nodes_that_are_looked_for(tenants: AsyncSession, wanted: NodeFilter, found: list[str]) -> None:
    assert names(await nodes.select_nodes(tenants, A, wanted, most=9), "node") == found
    after = await nodes.select_nodes(tenants, A, wanted, after="one", most=9)
    assert names(after, "node") == [name for name in found if name > "one"]


async def test_a_node_goes_with_what_is_its_own(tenants: AsyncSession) -> None:
    before = await everything(tenants)
    node_id = made_id("nd", "a", "two")
    await nodes.remove(tenants, node_id)
    left = await gone(tenants, before)
    assert len(left.pop("health_observations")) == 1
    assert left == {
        "nodes": {(node_id,)},
        "node_labels": {(node_id, "env"), (node_id, "role")},
        "cluster_members": {(made_id("cl", "a", "two"), node_id)},
        "join_requests": {(made_id("jq", "a", "two"),)},
        "secret_grants": {(made_id("sg", "a", "two"),)},
    }


async def test_who_may_join(tenants: AsyncSession) -> None:
    one = made_id("jt", "a", "one")
    assert names(await join_tokens.list_page(tenants, A, after=one, most=9), "join_token_id") == [
        made_id("jt", "a", name) for name in ("three", "two")
    ]
    assert (await join_tokens.find(tenants, A, one)) is not None
    assert (await join_tokens.find(tenants, B, one)) is None
    presented = await join_tokens.find_presented(tenants, "a-two")
    assert presented is not None
    assert presented.join_token_id == made_id("jt", "a", "two")
    assert await join_tokens.find_presented(tenants, "c-two") is None
    for address in ("one", made_id("jp", "a", "one")):
        policy = await join_policies.find(tenants, A, address)
        assert policy is not None
        assert policy.join_policy_id == made_id("jp", "a", "one")
    assert await join_policies.find(tenants, B, made_id("jp", "a", "one")) is None
    assert names(await join_policies.list_page(tenants, A, after="one", most=9), "join_policy") == ["three", "two"]
    of_aws = await join_policies.of_platform(tenants, "aws")
    assert {policy.join_policy_id for policy in of_aws} == {made_id("jp", of, "one") for of in WORKSPACES}


async def test_which_relay_may_enrol(tenants: AsyncSession) -> None:
    for number, name in enumerate(NAMES):
        tenants.add(_relay_token(name, NOW_MS + number))
    presented = await join_tokens.find_presented_by_relay(tenants, "relay-two")
    assert presented is not None
    assert presented.name == "two"
    assert await join_tokens.find_presented_by_relay(tenants, "relay-four") is None
    await join_tokens.remove_expired(tenants, NOW_MS + 1)
    assert await rows(tenants, RelayJoinToken) == {(made_id("rj", "", name),) for name in NAMES[1:]}


def _relay_token(name: str, expire_time: int) -> RelayJoinToken:
    return RelayJoinToken(
        join_token_id=made_id("rj", "", name),
        token_sha256=accounts.token_hash(f"relay-{name}"),
        name=name,
        dns_names=[name],
        expire_time=expire_time,
        creation_time=1,
    )


async def test_what_expired_is_forgotten_and_no_more(tenants: AsyncSession) -> None:
    before = await everything(tenants)
    await join_tokens.remove_expired(tenants, NOW_MS + 1)
    await join_requests.remove_expired(tenants, NOW_MS + 1)
    assert not await health.remove_old(tenants, 1)
    left = await gone(tenants, before)
    assert len(left.pop("health_observations")) == 2
    assert left == {
        "join_tokens": {(made_id("jt", of, "one"),) for of in WORKSPACES},
        "join_requests": {(made_id("jq", of, "one"),) for of in WORKSPACES},
    }


async def test_requests_to_join(tenants: AsyncSession) -> None:
    one, three, two = (made_id("jq", "a", name) for name in NAMES)
    assert (await join_requests.find(tenants, A, one)) is not None
    assert (await join_requests.find(tenants, B, one)) is None
    page = await join_requests.list_page(tenants, A, state=None, after=one, most=9)
    assert names(page, "join_request_id") == [three, two]
    page = await join_requests.list_page(tenants, A, state="pending", after=None, most=9)
    assert names(page, "join_request_id") == [three, two]
    found = await join_requests.find_for_csr(tenants, A, "machine-two", "csr", NOW_MS)
    assert found is not None
    assert found.join_request_id == two
    assert await join_requests.find_for_csr(tenants, A, "machine-two", "other", NOW_MS) is None


async def test_only_amachines_own_requests_that_wait_make_room(
    tenants: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(join_requests.MOST_OF_A_MACHINE):
        for of, workspace_id in zip(WORKSPACES, (A, B), strict=True):
            row = next(row for row in machines(of, workspace_id) if isinstance(row, JoinRequest))
            row.join_request_id = made_id("jq", of, f"more{number}")
            row.machine_id, row.state, row.csr_sha256 = "machine-two", "pending", f"csr-{number}"
            row.last_time = 10 + number
            tenants.add(row)
    denied = next(row for row in machines("a", A) if isinstance(row, JoinRequest))
    denied.join_request_id, denied.machine_id, denied.state = made_id("jq", "a", "denied"), "machine-two", "denied"
    denied.csr_sha256 = "denied"
    tenants.add(denied)
    before = await everything(tenants)
    of_a = 3 + join_requests.MOST_OF_A_MACHINE + 1
    monkeypatch.setattr(join_requests, "MOST_OF_A_WORKSPACE", of_a - 1)
    assert await join_requests.make_room(tenants, A, "machine-two")
    left = await gone(tenants, before)
    assert left == {"join_requests": {(made_id("jq", "a", "two"),), (made_id("jq", "a", "more0"),)}}
    monkeypatch.setattr(join_requests, "MOST_OF_A_WORKSPACE", of_a - 2)
    assert not await join_requests.make_room(tenants, A, "machine-one")


async def test_init_scripts(tenants: AsyncSession) -> None:
    cluster_id = made_id("cl", "a", "one")
    found = await init_scripts.of_owners(tenants, [A, cluster_id])
    assert {owner: [script.script_id for script in scripts] for owner, scripts in found.items()} == {
        A: [made_id("is", "a", f"{name}g") for name in NAMES],
        cluster_id: [made_id("is", "a", f"{name}c") for name in NAMES],
    }
    run = await init_scripts.to_run(tenants, cluster_id)
    assert [script.script_id for script in run] == [made_id("is", "a", f"{name}c") for name in ("one", "three")]
    script = await init_scripts.find(tenants, A, "one")
    assert script is not None
    assert script.script_id == made_id("is", "a", "oneg")
    assert await init_scripts.find(tenants, B, script.script_id) is None
    of_two = await init_scripts.clusters_of_node(tenants, made_id("nd", "a", "two"))
    assert names(of_two, "cluster") == ["two"]


async def test_events_of_the_audit(tenants: AsyncSession) -> None:
    for workspace_id in (A, B, None):
        for number, action in enumerate(("node.delete", "secret.put")):
            happening = Happening(action, outcome=f"o{number}", workspace_id=workspace_id)
            audit.append(tenants, float(number), Actor(f"actor-{number}"), happening)
    await tenants.flush()
    found = await audit.list_events(tenants, AuditFilter(workspace_id=A), before=None, most=9)
    assert names(found, "action") == ["secret.put", "node.delete"]
    rest = await audit.list_events(tenants, AuditFilter(workspace_id=A), before=found[0].event_id, most=9)
    assert rest == found[1:]
    for wanted in (
        AuditFilter(action="secret.put"),
        AuditFilter(actor="actor-1"),
        AuditFilter(outcome="o1"),
        AuditFilter(since_time=1000),
    ):
        events = await audit.list_events(tenants, wanted, before=None, most=9)
        assert [event.action for event in events] == ["secret.put"] * 3
    earlier = await audit.list_events(tenants, AuditFilter(until_time=1000), before=None, most=9)
    assert [event.action for event in earlier] == ["node.delete"] * 3


async def test_renewals_in_the_audit(tenants: AsyncSession) -> None:
    for time, action, outcome in (
        (1.0, "node.renew", "ok"),
        (2.0, "node.renew", "refused"),
        (2.0, "node.delete", "ok"),
        (3.0, "relay.renew", "ok"),
        (9.0, "node.renew", "ok"),
    ):
        audit.append(tenants, time, Actor("actor"), Happening(action, outcome=outcome))
    await tenants.flush()
    assert [event.time for event in await audit.renewals_since(tenants, 2000)] == [3000, 9000]
    assert await audit.newest_time(tenants, until_ms=3000) == 3000
    assert await audit.newest_time(tenants, until_ms=500) == 0


async def test_workspaces(tenants: AsyncSession) -> None:
    assert [row.workspace for row in await workspaces.list_page(tenants, after=None, most=9)] == ["a", "b"]
    assert [row.workspace for row in await workspaces.list_page(tenants, after="a", most=9)] == ["b"]
    workspace = await workspaces.find(tenants, "b")
    assert workspace is not None
    workspace.quotas = {"sender": {}}
    await tenants.flush()
    assert (await workspaces.bounded(tenants), await workspaces.count_bounded(tenants)) == ([workspace], 1)


async def test_a_workspace_ends_and_in_the_end_all_of_it_is_gone(tenants: AsyncSession) -> None:
    before = await everything(tenants)
    workspace = await workspaces.find(tenants, "a")
    assert workspace is not None
    await workspaces.end(tenants, workspace, NOW_MS)
    await tenants.flush()
    for address in ("a", A):
        assert await workspaces.find(tenants, address) is None
    assert [row.workspace for row in await workspaces.list_page(tenants, after=None, most=9)] == ["b"]
    assert not await nodes.places(tenants, [made_id("nd", "a", "one")])
    assert await submissions.open_rollouts(tenants) == [SubmissionKey(B, "one")]
    left = await gone(tenants, before)
    assert left.keys() >= {"join_tokens", "join_policies", "join_requests", "secret_scopes", "secrets", "secret_grants"}
    while (await forgetting.forget_deleted(tenants)).more or (await forgetting.forget_leavings(tenants)).more:
        await tenants.flush()
    after = await everything(tenants)
    for table, keys in before.items():
        if "workspace_id" in inspect(table).columns:
            assert not await rows(tenants, table, workspace_id=A), table
            assert len(after[table]) == len(keys) // 2, table
