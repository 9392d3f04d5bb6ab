"""Keeping one link to one relay address.

Theory of operation. The supervisor dials until it has a link, with a `Backoff` between attempts, and waits until that
link ends as the one to use (`Ending`):

* `LOST`: dial again. The backoff begins anew only if the link had lasted, and falls where it held for seconds; a relay
  that accepts and hangs up is not dialled in a circle.
* `DRAINING`, `REPLACED`: dial first, and only then let the old link finish what is on it (make before break). The new
  link has a higher number, by which the relay knows that it supersedes the old one.
* `REPLACED` with a successor: the new link is there already, made by `prove` with an identity that is not in force yet.
* `SUPERSEDED`: another process has dialled as this one, with a higher number. Only a copy of this process can, such as
  one that was resumed from a snapshot of a running machine. Where `prove` is under way it may have been this process
  itself, so its outcome is waited for. From then on this one is another instance to the relay, and dials as such: it
  never takes a place whose holder is alive, and the relay tells the operator of two. Only where this process has a link
  to the same relay by another address the one is enough, and this address is not dialled any more.

When a relay goes with a whole fleet of links, all of it comes back. Each relay has told its listeners beforehand over
how long to spread that (`return_within_seconds`). An agent that cannot dial at once draws its moment from this time, or
from the first part of it where commands run here. A relay that cuts a connection before TLS is up has more to set up
than it may: it is left alone for longer.

A refusal as a clone means that two machines have one identity: an operator has to see it, so it is logged as an error,
counted, and tried again only seldom.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from certs.trust import TrustVerdict
from node_agent.identity.node_identity import NodeIdentity
from node_agent.links.attachment import Attachment, Ending
from trunkline.channel.errors import ChannelError, ConnectionLost
from trunkline.channel.upgrade import LinkRefused
from trunkline.channel.upgrade_protocol import CutBeforeTls, UpgradeBroken
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

CHANGE_SPREAD_SECONDS = 1.0
"""Over which agents whose network has changed dial again: it may have changed for a whole site."""
REFUSED_PAUSE_SECONDS = 1.0
SUPERSEDED_PAUSE_SECONDS = 1.0
"""Until a link of this process that has superseded another is known here; the relay tells the other one at once."""
TOLD_SECONDS = 1.0
URGENT_SHARE = 0.25
"""Of the time over which a fleet returns, what those take whose commands run."""
CONFLICT_STATUS = 409
CREDENTIAL_STATUSES = (401, 403)


class Dials(Protocol):
    """Makes links."""

    def next_sequence(self) -> int:
        """Return the number of the next link."""
        ...

    def become_another(self, url: str) -> None:
        """Be another instance to the relay at this address from the next link on."""
        ...

    def ended(self, attachment: Attachment) -> TrustVerdict | None:
        """Return what has ended the use of the certificate that the attachment's relay has shown."""
        ...

    async def attach(self, attachment: Attachment, heir: NodeIdentity | None = None) -> None:
        """Give the attachment its link, with the identity in force or with `heir`.

        Raises:
            ChannelError: it could not be made.
        """
        ...


class LinkEvents(Protocol):
    """What is told of links."""

    def attached(self, attachment: Attachment) -> None:
        """A link is up."""
        ...

    def detached(self, attachment: Attachment) -> None:
        """A link is gone, or no longer the one to use."""
        ...

    def attempted(self, outcome: str) -> None:
        """An attempt has ended so."""
        ...

    def has_another(self, attachment: Attachment) -> bool:
        """Whether there is a link to the same relay by another address."""
        ...

    def token_refused(self) -> None:
        """A relay does not take the listen token."""
        ...


class RelaySupervisor:
    """Keeps a link to one address while `run` runs."""

    def __init__(
        self,
        url: str,
        *,
        dialer: Dials,
        make_attachment: Callable[[str, int], Attachment],
        events: LinkEvents,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        backoff: Backoff,
        clone_backoff_seconds: float,
        drain_seconds: float,
        urgent: Callable[[], bool],
        clock: Clock,
        rng: random.Random,
        log: Logger,
    ) -> None:
        """Prepare; `urgent` says whether commands run, so that this agent is to be back before others."""
        self.url = url
        self.current: Attachment | None = None
        self._dialer = dialer
        self._make_attachment = make_attachment
        self._events = events
        self._spawn = spawn
        self._backoff = backoff
        self._clone_backoff_seconds = clone_backoff_seconds
        self._drain_seconds = drain_seconds
        self._urgent = urgent
        self._clock = clock
        self._rng = rng
        self._log = log
        self._retry_after_seconds = 0.0
        self._return_within_seconds = 0.0
        self._crowded = False
        self._failures = 0
        self._dialling = asyncio.Lock()
        self._successor: Attachment | None = None
        self._ended = False
        self._woken = asyncio.Event()
        self._broken = 0

    async def run(self) -> None:
        """Keep a link until cancelled, or until another address leads to the same relay."""
        try:
            await self._keep()
        finally:
            self._ended = True
            if self._successor is not None:
                _abort(self._successor)

    async def _keep(self) -> None:
        former: Attachment | None = None
        while True:
            attachment = await self._attach()
            if former is not None:
                self._spawn(self.retire(former))
            attached_at = self._clock.monotonic()
            ending = await self._settled(await attachment.ending)
            self._let_go(attachment)
            self._log.info("link.ending", relay=self.url, sequence=attachment.sequence, ending=ending.value)
            if ending is Ending.SUPERSEDED and await self._give_way(attachment):
                return
            former = attachment if ending in (Ending.DRAINING, Ending.REPLACED) else None
            self._dial_when_gone(former)
            self._retry_after_seconds = attachment.retry_after_seconds
            self._backoff.held(self._clock.monotonic() - attached_at)
            if ending in (Ending.LOST, Ending.SUPERSEDED):
                await self._pause()

    def _dial_when_gone(self, former: Attachment | None) -> None:
        """Dial at once, as after a loss, when a link ends that has no successor yet: its relay is perhaps back soon.

        A relay that drains refuses new links until it goes, and the pauses have grown long by then.
        """
        if former is None or former.link is None:
            return

        def gone(closed: asyncio.Future[None]) -> None:
            if self.current is None:
                self._backoff.reset()
                self._woken.set()

        former.link.closed.add_done_callback(gone)

    async def _settled(self, ending: Ending) -> Ending:
        """Tell a link that this process has superseded itself, by `prove`, from one that another process has.

        The relay says so on the old link, and that may arrive before the answer on the new one.
        """
        if ending is not Ending.SUPERSEDED:
            return ending
        proving = self._dialling.locked()
        async with self._dialling:
            if self._successor is not None:
                return Ending.REPLACED
        return Ending.DRAINING if proving else Ending.SUPERSEDED

    async def _give_way(self, attachment: Attachment) -> bool:
        """Let a superseded link finish; return whether that is for good, since this process has another to the relay.

        Else a copy of this process has taken its place, and this one is another instance from now on.
        """
        self._spawn(self.retire(attachment))
        await asyncio.sleep(SUPERSEDED_PAUSE_SECONDS)
        if self._events.has_another(attachment):
            consequence = "this address is not dialled any more: another one leads to the same relay"
            self._log.error("link.superseded", relay=self.url, consequence=consequence)
            return True
        self._log.error(
            "link.superseded",
            relay=self.url,
            consequence="the relay is dialled as another instance, and refuses it while the other one lives",
            advice="two machines run from one image: find the other, end it, and have this node bootstrap anew",
        )
        self._dialer.become_another(self.url)
        return False

    def replace(self) -> None:
        """Make a new link with the credentials now in force, then let the present one finish."""
        if self.current is not None:
            self.current.end(Ending.REPLACED)

    async def network_changed(self) -> None:
        """Find out whether the link still works, or dial again soon if there is none.

        A link that does not answer the ping is given up as one is that does not answer its keepalive.
        """
        link = None if self.current is None else self.current.link
        if link is not None:
            with contextlib.suppress(ChannelError):
                await link.ping()
        elif self.current is None:
            await asyncio.sleep(self._rng.uniform(0.0, CHANGE_SPREAD_SECONDS))
            self._backoff.reset()
            self._woken.set()

    async def prove(self, heir: NodeIdentity) -> None:
        """Make a link with an identity that is not in force yet; once it is up, it takes the present link's place.

        Raises:
            ChannelError: the relay cannot be reached, or does not take it; nothing has changed.
        """
        async with self._dialling:
            attachment = self._make_attachment(self.url, self._dialer.next_sequence())
            await self._dial(attachment, heir)
            if self._ended:
                _abort(attachment)
                raise ConnectionLost("the relay is not dialled any more")
            self._events.attempted("attached")
            self._successor = attachment
            self._woken.set()
        self.replace()

    async def retire(self, attachment: Attachment) -> None:
        """Let a link that has a successor finish what is on it, and close it.

        What the relay opened here before it knew of the successor may still be on its way: it has arrived when the
        relay has answered a ping. A GoAway sent before that would refuse it.
        """
        link = attachment.link
        if link is not None:
            try:
                with contextlib.suppress(ChannelError):
                    await link.ping()
                await link.drain(self._drain_seconds)
            finally:
                link.close()

    def _let_go(self, attachment: Attachment) -> None:
        self.current = None
        self._events.detached(attachment)

    async def _attach(self) -> Attachment:
        while True:
            try:
                attachment = await self._successor_or_new()
            except LinkRefused as refusal:
                await self._refused(refusal)
            except ChannelError as error:
                self._crowded = isinstance(error, CutBeforeTls)
                self._events.attempted("crowded" if self._crowded else "failed")
                self._look_for_a_refused_certificate(error)
                await self._pause("link.not_made", str(error))
            else:
                self._failures = self._broken = 0
                self._return_within_seconds = attachment.return_within_seconds
                self.current = attachment
                self._events.attached(attachment)
                self._log.info("link.attached", relay=self.url, sequence=attachment.sequence)
                return attachment

    async def _successor_or_new(self) -> Attachment:
        async with self._dialling:
            attachment, self._successor = self._successor, None
            self._woken.clear()
            if attachment is None:
                attachment = self._make_attachment(self.url, self._dialer.next_sequence())
                await self._dial(attachment)
                self._events.attempted("attached")
            return attachment

    async def _dial(self, attachment: Attachment, heir: NodeIdentity | None = None) -> None:
        try:
            await self._dialer.attach(attachment, heir)
        except asyncio.CancelledError:
            _abort(attachment)
            raise

    def _look_for_a_refused_certificate(self, error: ChannelError) -> None:
        """TLS that ends before any answer may mean that the certificate is not taken: the alert is not told (asyncio).

        It may mean other things too, so the control plane is asked ever less often, while it goes on.
        """
        if not isinstance(error, UpgradeBroken):
            return
        self._broken += 1
        if self._broken > 1 and self._broken & (self._broken - 1) == 0:
            self._events.token_refused()

    async def _refused(self, refusal: LinkRefused) -> None:
        if refusal.status == CONFLICT_STATUS and refusal.from_relay:
            self._events.attempted("clone")
            self._log.error(
                "link.refused_as_clone",
                relay=self.url,
                reason=str(refusal),
                advice="another machine uses this node's identity: find it, revoke the node and bootstrap anew",
            )
            await self._sleep(self._clone_backoff_seconds * self._rng.uniform(0.5, 1.0))
            return
        self._events.attempted("refused")
        self._retry_after_seconds = float(refusal.retry_after_seconds or 0)
        if refusal.status in CREDENTIAL_STATUSES and refusal.from_relay:
            self._events.token_refused()
            self._retry_after_seconds = max(self._retry_after_seconds, REFUSED_PAUSE_SECONDS)
        await self._pause("link.refused", f"{refusal} (status {refusal.status})")

    async def _pause(self, event: str | None = None, reason: str = "") -> None:
        """Wait before the next attempt; of failures in a row the first is told, and those with a long wait behind."""
        at_least, self._retry_after_seconds = self._retry_after_seconds, 0.0
        crowded, self._crowded = self._crowded, False
        delay = self._backoff.next_delay_seconds(
            self._clock.monotonic(),
            at_least_seconds=at_least,
            spread_seconds=self._return_within_seconds * (URGENT_SHARE if self._urgent() else 1.0),
            crowded=crowded,
        )
        if event is not None:
            told = self._log.warning if not self._failures or delay >= TOLD_SECONDS else self._log.debug
            told(event, relay=self.url, reason=reason, attempts=self._failures + 1, retry_seconds=round(delay, 2))
            self._failures += 1
        await self._sleep(delay)

    async def _sleep(self, seconds: float) -> None:
        """Sleep, until a successor is there, or the relay has gone, at the latest."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()


def _abort(attachment: Attachment) -> None:
    if attachment.link is not None:
        attachment.link.abort()
