"""The control plane's own links to relays: they stand on its SVID, and on a relay's certificate that is still good.

TLS tells that an authority of ours has issued a relay's certificate. That it was revoked or locked since, nobody tells
whoever dials but the trust document, so it is looked at before anything is said, and again with each new document.
"""

import asyncio
from collections.abc import Callable

from certs.peers import peer_certificate
from certs.tls import TlsContext
from certs.trust import CertificateVerdict
from control_plane.fleet.reach import Sender
from trunkline.channel.errors import HandshakeFailed
from trunkline.channel.link import Link, LinkOwner
from trunkline.client.link_keeper import tls_dial
from trunkline.client.node_sender import NodeSender
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

LINK_SECONDS = 3.0


class RelayLinks:
    """Makes the senders to relays, and keeps watch over their links."""

    def __init__(
        self, *, client_tls: Callable[[], TlsContext], verdict: CertificateVerdict, clock: Clock, log: Logger
    ) -> None:
        """Prepare; `verdict` says what has ended the use of a certificate, by its serial number."""
        self._client_tls = client_tls
        self._verdict = verdict
        self._clock = clock
        self._log = log
        self._open: dict[Link, str] = {}

    def sender(self, url: str) -> Sender:
        """Make the sender to a relay: a link over TLS that stands on the control plane's SVID alone.

        The tokens of single calls stay out of it, so that revoking a node does not cut the link to all the others.
        """
        shown = [""]

        def refusal(transport: asyncio.BaseTransport) -> str | None:
            peer = peer_certificate(transport)
            shown[0] = "" if peer is None else peer.serial
            return self._refusal(shown[0])

        dial = tls_dial(url, self._client_tls, refuse_peer=refusal)

        async def dial_by_certificate(owner: LinkOwner, _: str | None) -> Link:
            link = await dial(owner, None)
            # A relay that takes its time to answer may have been revoked meanwhile, before there was a link to cut.
            ended = self._refusal(shown[0])
            if ended is not None:
                link.abort()
                raise HandshakeFailed(ended)
            self._open[link] = shown[0]
            link.closed.add_done_callback(lambda closed: self._open.pop(link, None))
            return link

        return NodeSender(
            url,
            ssl_context=self._client_tls,
            dial=dial_by_certificate,
            link_timeout_seconds=LINK_SECONDS,
            clock=self._clock,
        )

    def _refusal(self, serial: str) -> str | None:
        verdict = self._verdict(serial)
        if verdict is None:
            return None
        return f"the relay's certificate {verdict.id} is {'locked' if verdict.locked else 'revoked'}"

    def cut_ended(self) -> None:
        """Cut the links to relays whose certificate is no good any more; calls under way end unanswered."""
        for link, serial in list(self._open.items()):
            if self._verdict(serial) is not None:
                self._log.warning("link.relay_ended", certificate=serial)
                link.abort()
