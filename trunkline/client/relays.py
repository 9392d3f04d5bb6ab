"""The relays that this process has used: one sender, and so one link, for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from certs.tls import TlsContext
from trunkline.client.errors import Unreachable
from trunkline.client.node_sender import NodeSender
from trunkline.client.records import RelayAddress


class Relays:
    """Senders by relay address, made when they are first needed."""

    def __init__(self, ssl_context: TlsContext) -> None:
        self._ssl_context = ssl_context
        self._senders: dict[str, NodeSender] = {}

    async def linked(self, addresses: Sequence[RelayAddress], token: str) -> NodeSender:
        """The sender to the first of these relays that can be reached, its link open.

        Raises:
            Unreachable: none can be, or none was named.
            RelayRefused: the relay refuses the token.
        """
        failure = Unreachable("the control plane names no relay; has one been enrolled?", retry=False)
        for sender in self._candidates(addresses):
            try:
                await sender.connect(token)
            except Unreachable as error:
                failure = error
            else:
                return sender
        raise failure

    async def close(self) -> None:
        """Close every link."""
        senders = list(self._senders.values())
        self._senders.clear()
        for sender in senders:
            await sender.close()

    def _candidates(self, addresses: Sequence[RelayAddress]) -> Iterator[NodeSender]:
        for address in addresses:
            if address.url not in self._senders:
                self._senders[address.url] = NodeSender(address.url, ssl_context=self._ssl_context)
            yield self._senders[address.url]
