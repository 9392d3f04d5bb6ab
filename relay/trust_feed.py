"""The trust feed: the relay follows the control plane's trust document, and notices at once when it no longer does.

Theory of operation. The relay holds a stream of events open. Each document on it is verified and adopted, unless it is
older than the one in force. A heartbeat each second carries the number of the document that the control plane has:
when it is higher than ours, an event was lost, and the document is fetched as a snapshot. Silence, an error or the
end of the stream lead to a new one, after a backoff. Nothing here ever makes the relay trust less than it did: while
the control plane is away, the document in force stays.
"""

import asyncio
from typing import Protocol

from certs.errors import CertificateError
from relay.control_plane_client import ControlPlaneClient, ControlPlaneRefused, ControlPlaneUnreachable
from relay.events import EventError, EventReader, ServerEvent
from relay.metrics import RelayMetrics
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

EVENTS_PATH = "/api/2.0/trust-document/events"
SNAPSHOT_PATH = "/api/2.0/trust-document"
SILENCE_SECONDS = 4.0


class TrustAdopter(Protocol):
    """Who takes a document into force."""

    @property
    def sequence(self) -> int:
        """Number of the document in force."""
        ...

    def adopt(self, document: str) -> bool:
        """Verify a document (JWS) and take it into force; False if it is the one in force already.

        Raises:
            CertificateError: it is refused: its form, its signature, or an older number.
        """
        ...


class TrustFeed:
    """Follows the feed for ever."""

    def __init__(
        self,
        *,
        client: ControlPlaneClient,
        adopter: TrustAdopter,
        metrics: RelayMetrics,
        clock: Clock,
        backoff: Backoff,
        log: Logger,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._client = client
        self._adopter = adopter
        self._metrics = metrics
        self._clock = clock
        self._backoff = backoff
        self._log = log
        self._silence_seconds = silence_seconds
        self._following = False

    async def run(self) -> None:
        """Follow the feed; connect anew whenever it ends."""
        while True:
            try:
                await self._follow()
                reason = "the stream of events ended"
            except (ControlPlaneRefused, ControlPlaneUnreachable, EventError) as error:
                reason = str(error)
            self._lost(reason)
            await asyncio.sleep(self._backoff.next_delay_seconds(self._clock.monotonic()))

    async def _follow(self) -> None:
        async with self._client.follow(EVENTS_PATH, silence_seconds=self._silence_seconds) as pieces:
            reader = EventReader()
            async for piece in pieces:
                for event in reader.receive_data(piece):
                    await self._take(event)

    async def _take(self, event: ServerEvent) -> None:
        self._heard()
        if event.name == "trust_document":
            self._adopt(event.data)
        elif event.name == "heartbeat" and self._is_behind(event.data):
            self._log.warning("trust.gap", held=self._adopter.sequence, published=event.data[:20])
            snapshot = await self._client.call("GET", SNAPSHOT_PATH)
            self._adopt(str(snapshot.get("trust_document", "")))

    def _is_behind(self, sequence: str) -> bool:
        if not sequence.isdecimal() or len(sequence) > 18:
            raise EventError("a heartbeat without a number")
        return int(sequence) > self._adopter.sequence

    def _adopt(self, document: str) -> None:
        try:
            self._adopter.adopt(document)
        except CertificateError as error:
            self._metrics.trust_refused.of(type(error).__name__).count += 1
            self._log.error("trust.refused", reason=str(error))

    def _heard(self) -> None:
        self._metrics.trust_heard.set(self._clock.now())
        if not self._following:
            self._following = True
            self._backoff.reset()
            self._metrics.trust_connects.of("connected").count += 1
            self._log.info("trust.following")

    def _lost(self, reason: str) -> None:
        if self._following:
            self._log.warning("trust.feed_lost", reason=reason)
        else:
            self._metrics.trust_connects.of("failed").count += 1
            self._log.debug("trust.feed_unreachable", reason=reason)
        self._following = False
