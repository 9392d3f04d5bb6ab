"""Dialling a relay with the credentials that are in force at that moment."""

import asyncio
import itertools
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

from certs.errors import CertificateError
from certs.identities import Identity
from certs.peers import peer_certificate
from certs.tls import TlsContext
from certs.trust import CertificateVerdict, TrustVerdict
from node_agent.identity.credentials import Credentials
from node_agent.identity.node_identity import NodeIdentity
from node_agent.links.attachment import Attachment
from trunkline.channel.addresses import Addresses
from trunkline.channel.dialing import CarrierChoice, DialPlan, dial
from trunkline.channel.errors import ConnectionLost
from trunkline.channel.flushing import Flusher
from trunkline.channel.limits import CreditBudget, Limits
from trunkline.channel.link import Link, Role
from trunkline.channel.proxy_connect import ProxyAddress
from trunkline.channel.terms import LinkTerms

# A relay passes on the cancellations of all its senders, each of whom it bounds itself: one sender that cancels in a
# storm must not cost the node its link.
RESET_BURST = 100_000
RESETS_PER_SECOND = 20_000.0


@dataclass(frozen=True, slots=True)
class DialOptions:
    """How relays are dialled; times in seconds."""

    carrier: CarrierChoice = "auto"
    dial_seconds: float = 10.0
    keepalive_seconds: float = 8.0
    max_streams: int = 4096


class Dialer:
    """Makes links. All links of a process have its instance and a number, by which relays tell newer from older.

    A relay that has told of another process with the same instance knows this one by an instance of its own.
    """

    def __init__(
        self,
        credentials: Credentials,
        make_tls: Callable[[Identity], TlsContext],
        proxy_for: Callable[[str], ProxyAddress | None],
        proxy_tls: Callable[[], TlsContext],
        options: DialOptions,
        certificate_verdict: CertificateVerdict,
    ) -> None:
        """Prepare; `certificate_verdict` says what has ended the use of a relay's certificate, by its serial number."""
        self._credentials = credentials
        self._make_tls = make_tls
        self._proxy_for = proxy_for
        self._proxy_tls = proxy_tls
        self._options = options
        self._certificate_verdict = certificate_verdict
        self._loop = asyncio.get_running_loop()
        self._flusher = Flusher(self._loop)
        self._budget = CreditBudget()
        self._addresses = Addresses()
        self._sequences = itertools.count(1)
        self.instance = uuid.uuid4()
        self._other_instances: dict[str, uuid.UUID] = {}

    def next_sequence(self) -> int:
        """Return the number of the next link."""
        return next(self._sequences)

    def become_another(self, url: str) -> None:
        """Be another instance to the relay at this address from the next link on."""
        self._other_instances[url] = uuid.uuid4()

    def ended(self, attachment: Attachment) -> TrustVerdict | None:
        """Return what has ended the use of the certificate that the attachment's relay has shown."""
        return self._certificate_verdict(attachment.relay_serial)

    async def attach(self, attachment: Attachment, heir: NodeIdentity | None = None) -> None:
        """Dial the attachment's relay, and give it its link; as `heir`, where that is given.

        Raises:
            ChannelError: the relay cannot be reached, or refuses.
        """
        node = heir or self._credentials.current
        attachment.serial = node.identity.serial
        proxy = self._proxy_for(attachment.url)
        try:
            relay_tls = self._make_tls(node.identity)
            proxy_tls = self._proxy_tls() if proxy is not None and proxy.secure else None
        except CertificateError as error:
            # For want of descriptors too, which there may be again.
            raise ConnectionLost(str(error)) from None
        plan = DialPlan(
            attachment.url,
            relay_tls,
            token=node.listen_token.reveal(),
            instance=self._other_instances.get(attachment.url, self.instance),
            sequence=attachment.sequence,
            carrier=self._options.carrier,
            proxy=proxy,
            proxy_ssl_context=proxy_tls,
            deadline_seconds=self._options.dial_seconds,
            refuse_peer=lambda transport: self._refusal(attachment, transport),
            addresses=self._addresses,
        )

        def make_link(agreed: LinkTerms) -> Link:
            attachment.return_within_seconds = agreed.return_within_seconds
            attachment.link = self._make_link(attachment, agreed)
            return attachment.link

        await dial(plan, make_link)

    def _refusal(self, attachment: Attachment, transport: asyncio.BaseTransport) -> str | None:
        """Say why the relay is not to be spoken to: nobody else would tell that its certificate was revoked."""
        peer = peer_certificate(transport)
        attachment.relay_serial = "" if peer is None else peer.serial
        verdict = self.ended(attachment)
        if verdict is None:
            return None
        return f"the relay's certificate {verdict.id} is {'locked' if verdict.locked else 'revoked'}"

    def _make_link(self, attachment: Attachment, agreed: LinkTerms) -> Link:
        window_bytes = agreed.initial_window_bytes
        limits = replace(
            Limits(),
            initial_window_bytes=window_bytes,
            max_streams=self._options.max_streams,
            reset_burst=RESET_BURST,
            resets_per_second=RESETS_PER_SECOND,
        )
        return Link(
            Role.SERVER,
            attachment,
            limits=limits,
            loop=self._loop,
            send_window_bytes=window_bytes,
            compact=agreed.compact,
            budget=self._budget,
            keepalive_seconds=self._options.keepalive_seconds,
            flusher=self._flusher,
        )
