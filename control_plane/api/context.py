"""What the resources of the API share: their context, and the account, workspace and node that a path names."""

from dataclasses import dataclass

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.api.pages import Pages
from control_plane.errors import not_found, not_found_in
from control_plane.fleet.quota_book import QuotaBook
from control_plane.identity.trust_publisher import TrustPublisher
from control_plane.settings import ControlPlaneSettings
from control_plane.storage import accounts, nodes, workspaces
from control_plane.storage.database import Database
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.nodes import Node
from trunkline.runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class ApiContext:
    """Handed to every resource."""

    database: Database
    pages: Pages
    clock: Clock
    trust: TrustPublisher
    quotas: QuotaBook
    settings: ControlPlaneSettings
    account_id: str

    def now_ms(self) -> int:
        """Return the wall clock in milliseconds."""
        return int(self.clock.now() * 1000)

    def node_host(self, workspace: Workspace, node: Node) -> str:
        """Return the name that senders reach the node by."""
        return f"{node.node}.{workspace.workspace}.{self.settings.identity.name_suffix}"


def check_account(context: ApiContext, request: web.Request) -> None:
    """Refuse a path that names another account.

    Raises:
        ApiError: it does.
    """
    if request.match_info["account"] != context.account_id:
        raise not_found("account", "/api/2.0/accounts")


async def the_workspace(session: AsyncSession, address: str) -> Workspace:
    """Return the workspace with this id or name.

    Raises:
        ApiError: there is none.
    """
    workspace = await workspaces.find(session, address)
    if workspace is None:
        account = await accounts.the_account(session)
        raise not_found("workspace", f"/api/2.0/accounts/{account.account_id}/workspaces")
    return workspace


async def the_node(session: AsyncSession, workspace: Workspace, address: str, *, field: str | None = None) -> Node:
    """Return the workspace's node with this id or name; `field` is where a request's body names it.

    Raises:
        ApiError: there is none.
    """
    node = await nodes.find(session, workspace.workspace_id, address)
    if node is None:
        raise not_found_in(workspace.workspace, "node", field=field)
    return node
