"""Where callers attach to their shells: streams of the agent's API that ask to be upgraded to `trunkline-shell`.

They are not served by the application, since what follows the 101 is no HTTP. What is refused is answered like any
other request to the API.
"""

import asyncio
from typing import cast

from certs.scopes import SHELL_OPEN
from node_agent.commands.errors import CommandRefused, RefusalReason
from node_agent.exchanges.callers import Caller
from node_agent.exchanges.deadlines import Deadlines
from node_agent.exchanges.refusing import Unwanted, write_refusal
from node_agent.shells.session import ShellSession
from node_agent.shells.shells import Shells
from trunkline.channel.heads import RequestHead, write_response_head
from trunkline.channel.link import LinkStream
from trunkline.channel.shell_flow import WINDOW_BYTES
from trunkline.channel.shell_frames import UPGRADE_PROTOCOL
from trunkline.channel.stream_transport import StreamTransport

PATH_PREFIX = b"/v1/shells/"
MOST_UNSENT_BYTES = 2 * WINDOW_BYTES
"""What a caller who does not read may leave unsent; beyond that it is cut, and may attach again."""


class ShellDoor:
    """Takes admitted streams with an Upgrade to `trunkline-shell`."""

    def __init__(self, shells: Shells, lingering: Deadlines[LinkStream], loop: asyncio.AbstractEventLoop) -> None:
        self._shells = shells
        self._lingering = lingering
        self._loop = loop

    def takes(self, head: RequestHead) -> bool:
        """Whether the request asks for this protocol."""
        return head.upgrade is not None and head.upgrade.lower() == UPGRADE_PROTOCOL

    def serve(self, stream: LinkStream, head: RequestHead, leftover: bytes, caller: Caller) -> None:
        """Attach the caller to its shell; `leftover` came behind the head and was not handed back."""
        if not caller.claims.scopes.allows(SHELL_OPEN):
            self._refuse(stream, leftover, 403, "PERMISSION_DENIED", f"the token does not allow {SHELL_OPEN}")
            return
        try:
            session = self._session(head, caller)
        except CommandRefused as error:
            self._refuse(stream, leftover, error.reason.status, error.reason.error_code, error.message)
            return
        fields = [(b"Upgrade", UPGRADE_PROTOCOL), (b"Connection", b"Upgrade")]
        stream.write(write_response_head(101, fields))
        protocol = _AttachedStream(session)
        transport = StreamTransport(self._loop, stream, protocol)
        self._shells.attach(session, protocol, caller.claims)
        if leftover:
            transport.data_received(leftover)

    def _session(self, head: RequestHead, caller: Caller) -> ShellSession:
        path = head.target_origin
        if head.method != b"GET" or not path.startswith(PATH_PREFIX):
            message = "only GET /v1/shells/<shell id> can be upgraded to trunkline-shell"
            raise CommandRefused(RefusalReason.UNKNOWN, message)
        return self._shells.find(path.removeprefix(PATH_PREFIX).decode("latin-1"), caller.subject)

    def _refuse(self, stream: LinkStream, leftover: bytes, status: int, error_code: str, message: str) -> None:
        stream.consumed(len(leftover))
        stream.handler = Unwanted(stream, self._lingering)
        stream.write(write_refusal(status, error_code, message), end=True)


class _AttachedStream(asyncio.Protocol):
    """One stream of a caller, between its transport and the session."""

    _transport: asyncio.Transport

    def __init__(self, session: ShellSession) -> None:
        self._session = session

    # From the session

    def write(self, data: bytes) -> None:
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > MOST_UNSENT_BYTES:
            self._transport.abort()

    def finish(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    # From the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._session.received(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._session.lost(self)
