"""The trust feed: the relay follows the control plane's trust document, and notices at once when it no longer does.

Theory of operation. The relay holds a stream of events open. Each document on it is verified and adopted, unless it is
older than the one in force. A heartbeat each second carries the number of the document that the control plane has:
when it is higher than ours, an event was lost, and the document is fetched as a snapshot; when it is lower, the control
plane has forgotten what it published, and is handed the document that we hold. Silence, an error or the end of the
stream lead to a new one, after a backoff, or at once where the relay's own identity was replaced. Quotas come on the
same stream, and are handed on. Nothing here ever takes an older document for a newer one: while the control plane is
away, or behind, the document in force stays.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Protocol

from certs.errors import CertificateError
from relay.control_plane.client import ControlPlaneClient, IdentityReplaced
from relay.control_plane.events import EventError, EventReader, ServerEvent
from relay.control_plane.trust_hand_over import UNKNOWN_DOCUMENT_STATUS, TrustHandOver
from relay.metrics import RelayMetrics
from trunkline.client.control_plane_answers import ControlPlaneRefused, ControlPlaneUnreachable
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

EVENTS_PATH = "/api/2.0/trust-document/events"
SNAPSHOT_PATH = "/api/2.0/trust-document"
SILENCE_SECONDS = 4.0
LONGEST_PAUSE_SECONDS = 5.0
"""Before the next attempt, however long the control plane was away: revocations wait for it, and relays are few."""


def feed_backoff(rng: random.Random) -> Backoff:
    """Return the pauses between attempts to follow the feed."""
    return Backoff(rng, cap_seconds=LONGEST_PAUSE_SECONDS)


class TrustAdopter(Protocol):
    """Who takes a document into force."""

    @property
    def sequence(self) -> int:
        """Number of the document in force."""
        ...

    @property
    def held(self) -> str | None:
        """The document in force, as a JWS."""
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
        confirmed: Callable[[], None],
        refused: Callable[[int, str], None],
        take_quotas: Callable[[str], None],
        metrics: RelayMetrics,
        clock: Clock,
        backoff: Backoff,
        log: Logger,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._client = client
        self._adopter = adopter
        self._confirmed = confirmed
        self._refused = refused
        self._take_quotas = take_quotas
        self._hand_over = TrustHandOver(client, log)
        self._metrics = metrics
        self._clock = clock
        self._backoff = backoff
        self._log = log
        self._silence_seconds = silence_seconds
        self._following = False
        self._told = ""

    async def run(self) -> None:
        """Follow the feed; connect anew whenever it ends."""
        while True:
            try:
                await self._follow()
                reason = "the stream of events ended"
            except IdentityReplaced:
                continue
            except ControlPlaneRefused as error:
                reason = str(error)
                self._refused(error.status, reason)
            except (ControlPlaneUnreachable, EventError) as error:
                reason = str(error)
            self._lost(reason)
            await asyncio.sleep(self._backoff.next_delay_seconds(self._clock.monotonic()))

    async def _follow(self) -> None:
        """Read events to their end; who was handed the document is there, and followed without any further pause."""
        try:
            await self._read_events()
        except ControlPlaneRefused as error:
            if error.status != UNKNOWN_DOCUMENT_STATUS:
                raise
            await self._hand_over.give(self._adopter.sequence, self._adopter.held)
            await self._read_events()

    async def _read_events(self) -> None:
        path = EVENTS_PATH + self._hand_over.query(self._adopter.sequence, self._adopter.held)
        async with self._client.follow(path, silence_seconds=self._silence_seconds) as pieces:
            reader = EventReader()
            async for piece in pieces:
                for event in reader.receive_data(piece):
                    await self._take(event)

    async def _take(self, event: ServerEvent) -> None:
        self._heard()
        if event.name == "trust_document":
            if self._adopt(event.data):
                self._confirmed()
        elif event.name == "quotas":
            self._take_quotas(event.data)
        elif event.name == "heartbeat":
            published = _number(event.data)
            if published > self._adopter.sequence:
                self._log.warning("trust.gap", held=self._adopter.sequence, published=published)
                snapshot = await self._client.call("GET", SNAPSHOT_PATH)
                self._adopt(str(snapshot.get("trust_document", "")))
            elif published < self._adopter.sequence:
                self._check_rolled_back(published)
            else:
                self._confirmed()

    def _check_rolled_back(self, published: int) -> None:
        """Follow anew, which begins with saying what is held; unless that has been refused already."""
        if not self._hand_over.refused(self._adopter.held):
            raise EventError(f"the trust document went back from {self._adopter.sequence} to {published}")

    def _adopt(self, document: str) -> bool:
        try:
            self._adopter.adopt(document)
        except CertificateError as error:
            self._metrics.trust_refused.of(type(error).__name__).count += 1
            self._log.error("trust.refused", reason=str(error))
            return False
        return True

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
            tell = self._log.debug if reason == self._told else self._log.warning
            tell("trust.feed_unreachable", reason=reason)
        self._following = False
        self._told = reason


def _number(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 18:
        raise EventError("a heartbeat without a number")
    return int(text)
