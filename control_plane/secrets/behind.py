"""Who is behind: the nodes of the whole fleet that have not taken the secrets that they are to hold.

It is asked of all nodes every few seconds, and hardly any is behind. So the database puts nodes together that have
taken the same, and a grant to every node of a workspace is looked at once for all of them. Nodes are looked at one by
one, a few hundred in a turn, only in workspaces with grants to single nodes, clusters or labels.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.secrets.contents import Contents, contents_for
from control_plane.storage import secret_bundles, secret_grants, secrets
from control_plane.storage.records.secrets import SecretGrant
from control_plane.storage.secret_bundles import Taken

NODES_AT_ONCE = 500
_NONE = frozenset[str]()


@dataclass(slots=True)
class _Granted:
    """What a workspace grants: scopes to every node, and more to some of them."""

    to_all: set[str] = field(default_factory=set)
    to_some: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def scopes(self, node_id: str) -> frozenset[str]:
        """Return the scopes that a node is granted."""
        return frozenset(self.to_all | self.to_some.get(node_id, _NONE))


async def nodes_behind(session: AsyncSession) -> dict[str, str]:
    """Return the fingerprints of what they are to hold, by node id, of the confirmed nodes that have not taken it."""
    granted = await _granted(session)
    versions = await secrets.versions(session, granted.keys())
    found: dict[str, str] = {}
    for workspace_id, taken, ids in await secret_bundles.nodes_by_taken(session):
        place = granted.get(workspace_id, _Granted())
        wanted = _Wanted(versions.get(workspace_id, ()))
        if not place.to_some:
            fingerprint = wanted.unless_taken(frozenset(place.to_all), taken)
            found |= dict.fromkeys(ids.split(), fingerprint) if fingerprint is not None else {}
            await asyncio.sleep(0)
            continue
        for number, node_id in enumerate(ids.split(), 1):
            fingerprint = wanted.unless_taken(place.scopes(node_id), taken)
            if fingerprint is not None:
                found[node_id] = fingerprint
            if number % NODES_AT_ONCE == 0:
                await asyncio.sleep(0)
    return found


class _Wanted:
    """What nodes of a workspace are to hold, by the scopes that they are granted."""

    def __init__(self, versions: Sequence[tuple[str, str, int]]) -> None:
        self._versions = versions
        self._known: dict[frozenset[str], tuple[Contents, str]] = {}

    def unless_taken(self, scopes: frozenset[str], taken: Taken | None) -> str | None:
        """Return the fingerprint of what a node is to hold; None if it has taken that, or is to have nothing."""
        if scopes not in self._known:
            contents = contents_for(self._versions, scopes)
            self._known[scopes] = contents, contents.fingerprint()
        contents, fingerprint = self._known[scopes]
        if taken is None:
            return fingerprint if contents.entries else None
        return fingerprint if taken.accepts and taken.adopted_fingerprint != fingerprint else None


async def _granted(session: AsyncSession) -> dict[str, _Granted]:
    """Return what each workspace grants that grants anything."""
    grants = await secret_grants.every_grant(session)
    members = await secret_grants.members_of_granted_clusters(session)
    selectors = [grant.selector for grant in grants if grant.selector]
    holders = await secret_grants.holders(session, {label for selector in selectors for label in selector.items()})
    found: defaultdict[str, _Granted] = defaultdict(_Granted)
    for grant in grants:
        place = found[grant.workspace_id]
        if _is_to_all(grant):
            place.to_all.add(grant.scope)
            continue
        for number, node_id in enumerate(_nodes_of(grant, members, holders), 1):
            place.to_some[node_id].add(grant.scope)
            if number % NODES_AT_ONCE == 0:
                await asyncio.sleep(0)
    return found


def _is_to_all(grant: SecretGrant) -> bool:
    return grant.node_id is None and grant.cluster_id is None and grant.selector == {}


def _nodes_of(
    grant: SecretGrant, members: Mapping[str, Sequence[str]], holders: Mapping[tuple[str, str, str], frozenset[str]]
) -> Collection[str]:
    """Return the ids of the nodes that a grant is to which is not to all."""
    if grant.node_id is not None:
        return [grant.node_id]
    if grant.cluster_id is not None:
        return members.get(grant.cluster_id, ())
    labels = (grant.selector or {}).items()
    sets = [holders.get((grant.workspace_id, label, value), _NONE) for label, value in labels]
    return frozenset.intersection(*sets) if sets else ()
