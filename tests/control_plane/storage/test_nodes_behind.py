"""Who is behind with secrets: the same nodes, whether they are looked at all together or one by one."""

import random
from itertools import chain
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.secrets.behind import nodes_behind
from control_plane.secrets.contents import Contents, wanted_contents
from control_plane.storage.records.accounts import Account, Workspace
from control_plane.storage.records.nodes import Cluster, ClusterMember, Node, NodeLabel
from control_plane.storage.records.record import Record
from control_plane.storage.records.secrets import SecretBundle, SecretGrant, SecretScope, WorkspaceSecret

SCOPES = ("db", "empty", "web")
NODES = 120
SEED = 7


def account() -> list[Record]:
    made: dict[str, object] = {"page_key": "k", "trust_sequence": 1, "trust_change_time": 1, "creation_time": 1}
    return [Account(account_id="ac-1", **made)]


def workspace(number: int) -> list[list[Record]]:
    """A workspace with three scopes, one of them empty, and two clusters."""
    place = {"workspace_id": f"ws-{number}", "creation_time": 1}
    removed = 1 if number == 5 else None
    scopes = [SecretScope(**place, scope=scope, created_by="op") for scope in SCOPES]
    clusters = [Cluster(**place, cluster_id=f"cl-{number}-{name}", cluster=name) for name in "ab"]
    secrets = [
        WorkspaceSecret(workspace_id=f"ws-{number}", scope=scope, key="k", version=1, sealed=b"", size_bytes=0,
                        update_time=1, updated_by="op")
        for scope in ("db", "web")
    ]  # fmt: skip
    return [
        [Workspace(**place, account_id="ac-1", workspace=f"w{number}", delete_time=removed)],
        [*scopes, *clusters],
        [*secrets],
    ]


def node(number: int, rng: random.Random) -> list[Record]:
    """A node in one of the workspaces, with labels and clusters, confirmed but for one in ten."""
    node_id, place = f"nd-{number:03}", number % 6
    made = Node(
        node_id=node_id, workspace_id=f"ws-{place}", node=f"vm-{number}", sealing_key="k", agent_version="1",
        state="online", state_time=1, creation_time=1, confirm_time=None if number % 10 == 9 else 1,
    )  # fmt: skip
    labels = [NodeLabel(node_id=node_id, label=key, label_value=rng.choice("xy")) for key in ("env", "role")]
    members = [ClusterMember(cluster_id=f"cl-{place}-{name}", node_id=node_id) for name in "ab" if rng.random() < 0.5]
    return [made, *labels, *members]


def grants() -> list[Record]:
    """Workspaces that grant nothing (0, 4), to all (1), to all and some (2), to some in every way (3), or are gone."""
    chosen: list[tuple[int, str, dict[str, Any]]] = [
        (1, "db", {"selector": {}}),
        (2, "web", {"selector": {}}),
        (2, "db", {"selector": {"env": "x"}}),
        (3, "db", {"selector": {"env": "x", "role": "y"}}),
        (3, "db", {"cluster_id": "cl-3-a"}),
        (3, "web", {"cluster_id": "cl-3-b"}),
        (3, "web", {"node_id": "nd-003"}),
        (3, "empty", {"selector": {"env": "none"}}),
        (5, "db", {"selector": {}}),
    ]
    made = {"creation_time": 1, "created_by": "op"}
    return [
        SecretGrant(grant_id=f"sg-{number}", workspace_id=f"ws-{place}", scope=scope, **to, **made)
        for number, (place, scope, to) in enumerate(chosen)
    ]


def bundle(node_id: str, rng: random.Random, wanted: dict[str, Contents]) -> SecretBundle:
    """What a node has taken: what it, or another, is to hold, or nothing yet."""
    adopted = rng.choice([wanted[node_id], rng.choice(list(wanted.values())), None])
    return SecretBundle(
        node_id=node_id, sequence=1, fingerprint="", contents={}, held={}, accepts=rng.random() < 0.8,
        adopted_fingerprint=None if adopted is None else adopted.fingerprint(),
    )  # fmt: skip


def is_behind(taken: SecretBundle | None, wanted: Contents) -> bool:
    if taken is None:
        return bool(wanted.entries)
    return taken.accepts and taken.adopted_fingerprint != wanted.fingerprint()


async def test_together_and_one_by_one(empty: AsyncSession):
    rng = random.Random(SEED)
    places = [workspace(number) for number in range(6)]
    made = [node(number, rng) for number in range(NODES)]
    layers = [account(), *([*chain(*layer)] for layer in zip(*places, strict=True))]
    for layer in (*layers, [one[0] for one in made], [row for one in made for row in one[1:]], grants()):
        empty.add_all(layer)
        await empty.flush()
    nodes = (await empty.scalars(select(Node))).all()
    wanted = await wanted_contents(empty, {one.node_id: one.workspace_id for one in nodes})
    taken = {one.node_id: bundle(one.node_id, rng, wanted) for one in nodes if rng.random() < 0.7}
    empty.add_all(taken.values())
    await empty.flush()
    expected = {
        one.node_id: wanted[one.node_id].fingerprint()
        for one in nodes
        if one.confirm_time is not None and one.workspace_id != "ws-5"
        if is_behind(taken.get(one.node_id), wanted[one.node_id])
    }
    assert len({wanted[node_id] for node_id in expected}) >= 4
    assert {node_id for node_id in expected if node_id not in taken} != set()
    assert await nodes_behind(empty) == expected
