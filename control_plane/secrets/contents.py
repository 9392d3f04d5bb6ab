"""What a node is to be given: the secrets of the scopes that it is granted, named by version."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from certs.encoding import canonical_json
from control_plane.errors import ApiError, ErrorCode
from control_plane.secrets.references import SecretName, no_such_secret
from control_plane.storage import secret_grants, secrets
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.nodes import Node

MOST_NODES_NAMED = 5


@dataclass(frozen=True, slots=True)
class Contents:
    """The secrets of one bundle: (scope, key, version), sorted."""

    entries: tuple[tuple[str, str, int], ...]

    def fingerprint(self) -> str:
        """Return a hash that is equal exactly for equal contents."""
        return hashlib.sha256(canonical_json([list(entry) for entry in self.entries])).hexdigest()

    def versions(self) -> dict[str, int]:
        """Return the versions by `scope/key`."""
        return {f"{scope}/{key}": version for scope, key, version in self.entries}


def contents_for(versions: Iterable[tuple[str, str, int]], scopes: frozenset[str]) -> Contents:
    """Return what a node that is granted these scopes is given, of all the workspace's secrets."""
    return Contents(tuple(entry for entry in versions if entry[0] in scopes))


async def wanted_contents(session: AsyncSession, workspace_of: Mapping[str, str]) -> dict[str, Contents]:
    """Return what each of the nodes is to hold now; `workspace_of` has workspace ids by node id.

    It takes as few statements for nodes of hundreds of workspaces as for one.
    """
    granted = await secret_grants.granted_scopes(session, workspace_of)
    places = {node_id: (workspace_of[node_id], scopes) for node_id, scopes in granted.items()}
    versions = await secrets.versions(session, {workspace_id for workspace_id, scopes in places.values() if scopes})
    by_place = {place: contents_for(versions.get(place[0], ()), place[1]) for place in set(places.values())}
    return {node_id: by_place[place] for node_id, place in places.items()}


async def required_versions(
    session: AsyncSession, workspace: Workspace, nodes: Sequence[Node], names: Sequence[SecretName]
) -> dict[str, int]:
    """Return the present versions of secrets that a command on these nodes refers to, by `scope/key`.

    Raises:
        ApiError: a secret does not exist, or its scope is not granted to one of the nodes.
    """
    workspace_id = workspace.workspace_id
    found = await secrets.find_named(session, workspace_id, [(name.scope, name.key) for name in names])
    versions = {f"{secret.scope}/{secret.key}": secret.version for secret in found}
    for name in names:
        if str(name) not in versions:
            raise no_such_secret(workspace.workspace, field="secrets")
    granted = await secret_grants.granted_scopes(session, {node.node_id: workspace_id for node in nodes})
    for scope in sorted({name.scope for name in names}):
        without = [node.node for node in nodes if scope not in granted[node.node_id]]
        if without:
            named = ", ".join(without[:MOST_NODES_NAMED]) + (", …" if len(without) > MOST_NODES_NAMED else "")
            message = f"the scope {scope!r} is not granted to {named}: see `trunkline secret grant`"
            raise ApiError(ErrorCode.PERMISSION_DENIED, message)
    return versions
