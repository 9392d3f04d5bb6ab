"""The relays that this process has used: one sender, and so one link, for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trunkline.client.lifetime import Lifetime
from trunkline.client.node_sender import NodeSender
from trunkline.client.records.relays import RelayAddress


class Relays:
    """Senders by relay address, made when they are first needed."""

    def __init__(self, make_sender: Callable[[str], NodeSender]) -> None:
        self._make_sender = make_sender
        self._senders: dict[str, NodeSender] = {}
        self._lifetime = Lifetime()

    def senders(self, addresses: Sequence[RelayAddress]) -> dict[str, NodeSender]:
        """The senders to these relays, by address, in the order given; raises what `Lifetime.check` raises."""
        self._lifetime.check()
        return {address.url: self._sender(address.url) for address in addresses}

    async def close(self) -> None:
        """Close every link; no sender is given any more."""
        self._lifetime.end()
        senders = list(self._senders.values())
        self._senders.clear()
        for sender in senders:
            await sender.close()

    def _sender(self, url: str) -> NodeSender:
        if url not in self._senders:
            self._senders[url] = self._make_sender(url)
        return self._senders[url]
