"""The account's side of the API: workspaces, relays, audit events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from trunkline.client.api_transport import ApiTransport, path_of
from trunkline.client.errors import BadResponse
from trunkline.client.pages import read_pages, read_record
from trunkline.client.records.audit import AuditEvent
from trunkline.client.records.relays import Relay, RelayJoinToken
from trunkline.client.records.rotations import Rotation
from trunkline.client.records.secrets import KeyRotation
from trunkline.client.records.workspaces import Workspace, WorkspaceQuotas
from trunkline.client.rotations import RotationApi, RotationKind


class AccountApi:
    """What belongs to the whole account; its id is asked for once."""

    def __init__(self, transport: ApiTransport) -> None:
        self._transport = transport
        self._account_id: str | None = None

    async def account_id(self) -> str:
        """The id of the account that the operator's token belongs to."""
        if self._account_id is None:
            document = await self._transport.call("GET", path_of("api", "2.0", "accounts"))
            self._account_id = _read_account_id(document)
        return self._account_id

    async def create_workspace(self, name: str) -> Workspace:
        """Create a workspace; if there is one of that name already, that is the result."""
        document = await self._transport.call("POST", await self._path("workspaces"), document={"workspace": name})
        return read_record(Workspace, document)

    async def list_workspaces(self) -> AsyncIterator[Workspace]:
        """Every workspace."""
        path = await self._path("workspaces")
        async for workspace in read_pages(self._transport, path, "workspaces", Workspace):
            yield workspace

    async def get_workspace(self, workspace: str) -> Workspace:
        """One workspace by its id or name."""
        return read_record(Workspace, await self._transport.call("GET", await self._path("workspaces", workspace)))

    async def delete_workspace(self, workspace: str) -> None:
        """Delete a workspace by its id or name."""
        await self._transport.call("DELETE", await self._path("workspaces", workspace))

    async def get_quotas(self, workspace: str) -> WorkspaceQuotas:
        """The quotas of a workspace, by its id or name."""
        path = await self._path("workspaces", workspace, "quotas")
        return read_record(WorkspaceQuotas, await self._transport.call("GET", path))

    async def set_quotas(self, workspace: str, quotas: WorkspaceQuotas) -> WorkspaceQuotas:
        """Put these quotas in place of all that the workspace had; relays hold to them within a second."""
        path = await self._path("workspaces", workspace, "quotas")
        document = quotas.model_dump(exclude_none=True)
        return read_record(WorkspaceQuotas, await self._transport.call("PUT", path, document=document))

    async def list_relays(self) -> AsyncIterator[Relay]:
        """Every enrolled relay."""
        path = await self._path("relays")
        async for relay in read_pages(self._transport, path, "relays", Relay):
            yield relay

    async def delete_relay(self, relay: str) -> None:
        """Take a relay out of service by its id."""
        await self._transport.call("DELETE", await self._path("relays", relay))

    async def create_relay_join_token(
        self, name: str, dns_names: Sequence[str], *, lifetime_seconds: int
    ) -> RelayJoinToken:
        """A single-use token by which one relay enrols under these DNS names."""
        document = {"name": name, "dns_names": list(dns_names), "lifetime_seconds": lifetime_seconds}
        answer = await self._transport.call(
            "POST", await self._path("relay-join-tokens"), document=document, safe=False
        )
        return read_record(RelayJoinToken, answer)

    async def list_audit_events(
        self,
        *,
        action: str | None = None,
        actor: str | None = None,
        outcome: str | None = None,
        workspace_id: str | None = None,
        since_time: int | None = None,
        until_time: int | None = None,
    ) -> AsyncIterator[AuditEvent]:
        """The audit events that match every filter given, the newest first; times in milliseconds since the epoch."""
        path = await self._path("audit-events")
        query: dict[str, str | int | None] = {
            "action": action,
            "actor": actor,
            "outcome": outcome,
            "workspace_id": workspace_id,
            "since_time": since_time,
            "until_time": until_time,
        }
        async for event in read_pages(self._transport, path, "events", AuditEvent, query):
            yield event

    async def rotate_secret_key(self) -> KeyRotation:
        """Replace the key that wraps the data keys of all workspaces' secrets."""
        path = await self._path("secrets", "rotate-key")
        return read_record(KeyRotation, await self._transport.call("POST", path, document={}, safe=False))

    def rotation(self, kind: RotationKind) -> RotationApi:
        """The rotation of the certificate authority (`ca`) or of the key that signs tokens (`signing-key`)."""
        return RotationApi(self._transport, kind, self._path)

    async def revoke_signing_key(self, key_id: str, reason: str) -> Rotation:
        """End a signing key at once: what stands on it is cut, and nodes renew by their certificate."""
        path = await self._path("signing-keys", key_id, "revoke")
        return read_record(Rotation, await self._transport.call("POST", path, document={"reason": reason}))

    async def _path(self, *segments: str) -> str:
        return path_of("api", "2.0", "accounts", await self.account_id(), *segments)


def _read_account_id(document: dict[str, object]) -> str:
    account_id = document.get("account_id")
    if not isinstance(account_id, str) or not account_id:
        raise BadResponse("the control plane did not say which account the token belongs to")
    return account_id
