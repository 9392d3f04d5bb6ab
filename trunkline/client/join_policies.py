"""Join policies and join requests of one workspace: which machines become nodes by what their cloud says of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from trunkline.client.api_transport import ApiTransport, path_of
from trunkline.client.pages import read_pages, read_record
from trunkline.client.records.joining import JoinPolicy, JoinRequest


class JoinPolicyApi:
    """What decides about machines that attest."""

    def __init__(self, transport: ApiTransport, workspace: str) -> None:
        self._transport = transport
        self._workspace = workspace

    async def create(
        self,
        name: str,
        platform: str,
        conditions: Mapping[str, Any],
        *,
        node_name: str | None = None,
        labels: Mapping[str, str] | None = None,
        cluster: str | None = None,
        reattestation: Mapping[str, Any] | None = None,
    ) -> JoinPolicy:
        """Create a policy; one that exists with the same rules is the result.

        Args:
            name: the policy's name.
            platform: ``azure``, ``aws`` or ``gcp``.
            conditions: what must hold of a machine: lists by name (``accounts``, …), and ``tags``.
            node_name: a template of the nodes' names, e.g. ``web-{name}``.
            labels: what the nodes are labelled with.
            cluster: the cluster that they join.
            reattestation: what is asked of a machine that comes back; always taken in, unless told otherwise.
        """
        document: dict[str, Any] = {"join_policy": name, "platform": platform, "conditions": dict(conditions)}
        document |= {"node_name": node_name} if node_name else {}
        document |= {"labels": dict(labels)} if labels else {}
        document |= {"cluster": cluster} if cluster else {}
        document |= {"reattestation": dict(reattestation)} if reattestation else {}
        return read_record(JoinPolicy, await self._transport.call("POST", self._path(), document=document))

    async def list(self) -> AsyncIterator[JoinPolicy]:
        """Every policy of the workspace."""
        async for policy in read_pages(self._transport, self._path(), "join_policies", JoinPolicy):
            yield policy

    async def get(self, policy: str) -> JoinPolicy:
        """One policy by its id or name."""
        return read_record(JoinPolicy, await self._transport.call("GET", self._path(policy)))

    async def delete(self, policy: str) -> None:
        """Delete a policy; nodes that joined by it stay."""
        await self._transport.call("DELETE", self._path(policy))

    async def list_requests(self, *, state: str | None = None) -> AsyncIterator[JoinRequest]:
        """The machines that wait for an operator, or did lately."""
        query = {"state": state}
        async for request in read_pages(self._transport, self._requests(), "join_requests", JoinRequest, query):
            yield request

    async def approve(self, join_request_id: str) -> JoinRequest:
        """Let a machine in again, once."""
        return await self._decide(join_request_id, "approve")

    async def deny(self, join_request_id: str) -> JoinRequest:
        """Refuse a machine's request to come back."""
        return await self._decide(join_request_id, "deny")

    async def _decide(self, join_request_id: str, verb: str) -> JoinRequest:
        answer = await self._transport.call("POST", self._requests(join_request_id, verb), document={})
        return read_record(JoinRequest, answer)

    def _path(self, *segments: str) -> str:
        return path_of("w", self._workspace, "api", "2.0", "join-policies", *segments)

    def _requests(self, *segments: str) -> str:
        return path_of("w", self._workspace, "api", "2.0", "join-requests", *segments)
