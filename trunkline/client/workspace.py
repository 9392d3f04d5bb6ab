"""One workspace's side of the API: nodes, clusters, join tokens, access tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from trunkline.client.api_transport import ApiTransport, path_of
from trunkline.client.commands import CommandApi
from trunkline.client.init_scripts import InitScriptApi
from trunkline.client.join_policies import JoinPolicyApi
from trunkline.client.pages import read_pages, read_record
from trunkline.client.records.init_scripts import NodeInit
from trunkline.client.records.joining import JoinToken
from trunkline.client.records.nodes import Cluster, HealthCheck, Node, NodeHealth, NodePolicy
from trunkline.client.records.tokens import AccessToken
from trunkline.client.secrets import SecretApi
from trunkline.client.submissions import SubmissionApi


class WorkspaceApi:
    """What belongs to one workspace, addressed by its name or id.

    Attributes:
        name: the workspace's name or id, as given.
        commands: the commands of the workspace.
        submissions: what was submitted as a whole, to one node or to many.
        secrets: the secrets of the workspace.
        join_policies: which machines become its nodes.
        init_scripts: what all new nodes of the workspace run first.
    """

    def __init__(self, transport: ApiTransport, name: str) -> None:
        self.name = name
        self._transport = transport
        self.commands = CommandApi(transport, name)
        self.submissions = SubmissionApi(transport, name)
        self.secrets = SecretApi(transport, name)
        self.join_policies = JoinPolicyApi(transport, name)
        self.init_scripts = InitScriptApi(transport, name)

    async def list_nodes(
        self, *, state: str | None = None, cluster: str | None = None, labels: Mapping[str, str] | None = None
    ) -> AsyncIterator[Node]:
        """The nodes that match every filter given."""
        repeated = [("label", f"{key}={value}") for key, value in (labels or {}).items()]
        query = {"state": state, "cluster": cluster}
        async for node in read_pages(self._transport, self._path("nodes"), "nodes", Node, query, repeated):
            yield node

    async def get_node(self, node: str) -> Node:
        """One node by its id or name."""
        return read_record(Node, await self._transport.call("GET", self._path("nodes", node)))

    async def initialise_node(self, node: str, run: int) -> NodeInit:
        """Have a node run its init scripts again, as the run of this number: one more than that of its last."""
        answer = await self._transport.call("POST", self._path("nodes", node, "init"), document={"run": run})
        return read_record(NodeInit, answer)

    def cluster_init_scripts(self, cluster: str) -> InitScriptApi:
        """What new nodes of one cluster run, after the scripts of the workspace; nothing is asked yet."""
        return InitScriptApi(self._transport, self.name, cluster)

    async def delete_node(self, node: str) -> None:
        """Delete a node: its identity is revoked and its link cut."""
        await self._transport.call("DELETE", self._path("nodes", node))

    async def get_node_health(self, node: str) -> NodeHealth:
        """A node's health."""
        return read_record(NodeHealth, await self._transport.call("GET", self._path("nodes", node, "health")))

    async def get_node_policy(self, node: str) -> NodePolicy:
        """What the node's owner allows; the node is asked.

        Raises:
            TrunklineError: it cannot be asked now.
        """
        return read_record(NodePolicy, await self._transport.call("GET", self._path("nodes", node, "policy")))

    async def list_node_health_history(self, node: str) -> AsyncIterator[HealthCheck]:
        """What the control plane's checks of a node found, the newest first."""
        path = self._path("nodes", node, "health", "history")
        async for check in read_pages(self._transport, path, "history", HealthCheck):
            yield check

    async def create_cluster(self, name: str, nodes: Sequence[str] = ()) -> Cluster:
        """Create a named group of nodes."""
        document = {"cluster": name, "nodes": list(nodes)}
        return read_record(Cluster, await self._transport.call("POST", self._path("clusters"), document=document))

    async def list_clusters(self) -> AsyncIterator[Cluster]:
        """Every cluster."""
        async for cluster in read_pages(self._transport, self._path("clusters"), "clusters", Cluster):
            yield cluster

    async def get_cluster(self, cluster: str) -> Cluster:
        """One cluster by its id or name."""
        return read_record(Cluster, await self._transport.call("GET", self._path("clusters", cluster)))

    async def change_cluster(self, cluster: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> Cluster:
        """Put nodes into a cluster and take others out."""
        document = {"add": list(add), "remove": list(remove)}
        answer = await self._transport.call("PATCH", self._path("clusters", cluster), document=document)
        return read_record(Cluster, answer)

    async def delete_cluster(self, cluster: str) -> None:
        """Delete a cluster; its nodes stay."""
        await self._transport.call("DELETE", self._path("clusters", cluster))

    async def create_call_token(
        self, node: str, scopes: Sequence[str], *, lifetime_seconds: int | None = None
    ) -> AccessToken:
        """A token for calls to one node with the scopes named, for 15 minutes at most.

        Without a lifetime it has the longest that the control plane gives (`tokens.longest_call_seconds` there).
        """
        document: dict[str, Any] = {"node": node, "scopes": list(scopes)}
        document |= {"lifetime_seconds": lifetime_seconds} if lifetime_seconds is not None else {}
        return await self._create_token("call", document)

    async def create_workspace_token(self, ports: Sequence[int], *, lifetime_seconds: int) -> AccessToken:
        """A token for shared ports of every node of the workspace, for 30 days at most."""
        return await self._create_token("workspace", {"ports": list(ports), "lifetime_seconds": lifetime_seconds})

    async def create_join_token(
        self,
        *,
        node_name: str | None = None,
        labels: Mapping[str, str] | None = None,
        cluster: str | None = None,
        lifetime_seconds: int,
        uses: int = 1,
    ) -> JoinToken:
        """A token by which machines bootstrap as nodes of this workspace."""
        document: dict[str, Any] = {"lifetime_seconds": lifetime_seconds, "uses": uses}
        document |= {"node_name": node_name} if node_name else {}
        document |= {"cluster": cluster} if cluster else {}
        document |= {"labels": dict(labels)} if labels else {}
        return read_record(
            JoinToken, await self._transport.call("POST", self._path("join-tokens"), document=document, safe=False)
        )

    async def list_join_tokens(self) -> AsyncIterator[JoinToken]:
        """The join tokens that exist, without the tokens themselves."""
        async for token in read_pages(self._transport, self._path("join-tokens"), "join_tokens", JoinToken):
            yield token

    async def delete_join_token(self, join_token_id: str) -> None:
        """Make a join token useless."""
        await self._transport.call("DELETE", self._path("join-tokens", join_token_id))

    async def _create_token(self, kind: str, document: Mapping[str, Any]) -> AccessToken:
        answer = await self._transport.call("POST", self._path("tokens", kind), document=document)
        return read_record(AccessToken, answer)

    def _path(self, *segments: str) -> str:
        return path_of("w", self.name, "api", "2.0", *segments)
