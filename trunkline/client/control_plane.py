"""The client of the control plane's API: the account, its workspaces, and nodes to be reached through a relay."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from certs.tls import TlsContext, client_context
from trunkline.client.api_transport import API_TIMEOUT_SECONDS, ApiTransport
from trunkline.client.endings import EndingsApi
from trunkline.client.node import Node
from trunkline.client.node_sender import NodeSender
from trunkline.client.relays import Relays
from trunkline.client.workspace import WorkspaceApi
from trunkline.client.workspaces import AccountApi
from trunkline.runtime.secret import Secret


class ControlPlane:
    """One control plane, as an operator or program with a token sees it; use as an asynchronous context manager.

    It is used on one event loop (a second one is a `RuntimeError`) and until it is closed (then `Unreachable`).

    Attributes:
        account: workspaces, relays, audit events.
        endings: revocations and locks.
    """

    def __init__(
        self,
        url: str,
        token: str | Secret,
        *,
        ca_file: str | os.PathLike[str] | None = None,
        ssl_context: TlsContext | None = None,
        timeout_seconds: float = API_TIMEOUT_SECONDS,
    ) -> None:
        """Make a client that has no connection yet.

        Args:
            url: ``https://host[:port]``.
            token: an operator's token.
            ca_file: the roots to trust for the control plane and its relays; the public CAs when it is None.
            ssl_context: a context from `certs.tls.client_context`, in place of `ca_file`.
            timeout_seconds: the default bound of a request, all attempts together.

        Raises:
            ValueError: `url` is not an https address.
            CertificateError: `ca_file` cannot be used.
        """
        context = ssl_context or client_context(ca_file=Path(ca_file) if ca_file is not None else None)
        secret = token if isinstance(token, Secret) else Secret(token)
        self._transport = ApiTransport(url, secret, ssl_context=context, timeout_seconds=timeout_seconds)
        self._relays = Relays(lambda url: NodeSender(url, ssl_context=context))
        self.account = AccountApi(self._transport)
        self.endings = EndingsApi(self._transport)

    def workspace(self, name: str) -> WorkspaceApi:
        """One workspace, by name or id; nothing is asked yet."""
        return WorkspaceApi(self._transport, name)

    def node(self, workspace: str, node: str) -> Node:
        """One node, to be called through a relay; nothing is asked yet."""
        return Node(self.workspace(workspace), node, self._relays)

    async def close(self) -> None:
        """Close every link and connection."""
        await self._relays.close()
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
