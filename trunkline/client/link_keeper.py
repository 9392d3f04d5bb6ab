"""One link to one relay, kept: dialled when it is first needed, and again when it drains or is lost.

Theory of operation. Callers `acquire` the current link. When there is none, one dialling task serves all who wait; it
goes on with back-off until it has a link, is refused for good, or the keeper is closed. A link that says goodbye
(GO_AWAY) keeps its calls until they end, while a new one is dialled at once for the next calls. A link that lived only
briefly does not reset the back-off, so that a relay which accepts and drops links is not stormed; one that lived for
seconds bounds it. Long pauses are for times in which nobody wants the link: a call that waits for it, or comes, has it
dialled within `WANTED_SECONDS`, unless the relay has asked for longer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from certs.tls import TlsContext
from trunkline.channel.addresses import Addresses
from trunkline.channel.dialing import DialPlan, dial_link
from trunkline.channel.errors import ChannelError, HandshakeFailed
from trunkline.channel.limits import Limits
from trunkline.channel.link import Link, LinkOwner, LinkStream, StreamHandler
from trunkline.channel.session import Role
from trunkline.channel.upgrade import LinkRefused
from trunkline.channel.upgrade_protocol import PeerRefusal
from trunkline.client.errors import Unauthenticated, Unreachable
from trunkline.client.outbound_proxy import outbound_proxy
from trunkline.client.refusals import refused_link
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock

Dial = Callable[[LinkOwner, str | None], Awaitable[Link]]
"""Opens one link whose owner is the first argument, authorised by the token, or by the TLS identity alone."""

SENDER_LIMITS = Limits(max_streams=16_384)
STEADY_SECONDS = 5.0
WANTED_SECONDS = 2.0
_PERMANENT_STATUSES = frozenset({400, 401, 403, 404, 407})


def tls_dial(
    relay_url: str,
    ssl_context: TlsContext | Callable[[], TlsContext],
    *,
    refuse_peer: PeerRefusal | None = None,
) -> Dial:
    """The way to a relay over TLS; the context is asked for at each attempt if it can be called.

    What is between may not let an unknown upgrade through: the link then comes in a WebSocket.
    `refuse_peer` says why a relay whose certificate verifies is not to be spoken to all the same.
    """
    addresses = Addresses()

    async def dial(owner: LinkOwner, token: str | None) -> Link:
        context = ssl_context if isinstance(ssl_context, TlsContext) else ssl_context()
        plan = DialPlan(
            relay_url,
            context,
            token,
            carrier="auto",
            proxy=outbound_proxy(relay_url),
            refuse_peer=refuse_peer,
            addresses=addresses,
        )
        return await dial_link(plan, role=Role.CLIENT, owner=owner, limits=SENDER_LIMITS)

    return dial


class LinkKeeper:
    """Keeps one link; used from one event loop."""

    def __init__(self, relay_url: str, dial: Dial, *, clock: Clock, backoff: Backoff) -> None:
        self._relay_url = relay_url
        self._dial = dial
        self._clock = clock
        self._backoff = backoff
        self._token: str | None = None
        self._dialled_with: str | None = None
        self._link: Link | None = None
        self._linked_at = 0.0
        self._old_links: set[Link] = set()
        self._dialling: asyncio.Task[Link] | None = None
        self._last_failure = "no answer"
        self._has_failed = False
        self._closed = False
        self._waiting = 0
        self._wanted = asyncio.Event()

    @property
    def linked(self) -> bool:
        """Whether there is a link to open streams on."""
        return self._link is not None

    @property
    def dialling(self) -> bool:
        """Whether a link is being dialled, or will be after a pause."""
        return self._dialling is not None and not self._dialling.done()

    @property
    def failing(self) -> bool:
        """Whether there is no link since it was lost, or could not be made, and no attempt has succeeded yet."""
        return self._has_failed and self._link is None

    async def acquire(self, token: str | None, timeout_seconds: float) -> Link:
        """The link to open a stream on, dialled with `token` if need be.

        Raises:
            Unreachable: there is none within `timeout_seconds`, or the relay's certificate is not trusted.
            RelayRefused: the relay refuses the link for good; `Unauthenticated` when the token is at fault.
        """
        if self._link is not None:
            return self._link
        self._token = token if token is not None else self._token
        self._waiting += 1
        self._wanted.set()
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._wait_for_link()
        except TimeoutError:
            raise Unreachable(
                f"no link to the relay {self._relay_url} within {timeout_seconds:g} s: {self._last_failure}"
            ) from None
        finally:
            self._waiting -= 1

    async def close(self, timeout_seconds: float) -> None:
        """Close every link, once the relay has what was written, or the time has passed, when they are cut.

        Calls under way end with `CallInterrupted`.
        """
        self._closed = True
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.wait([self._dialling])
        links = [*self._old_links, *([self._link] if self._link is not None else [])]
        self._link = None
        await asyncio.gather(*(link.end(timeout_seconds) for link in links))

    def discard(self, link: Link) -> None:
        """Take a link that opens no further stream out of use, and dial another."""
        if link is self._link:
            self._old_links.add(link)
            self._replace_link()

    # What a link calls.

    def stream_offered(self, stream: LinkStream) -> StreamHandler | None:
        """Refuse: a relay opens no streams towards a sender."""
        return None

    def go_away_received(self, link: Link, code: object) -> None:
        """Dial a new link at once; the old one keeps its calls."""
        self.discard(link)

    def link_lost(self, link: Link, error: ChannelError | None) -> None:
        """Forget the link, and dial again if it was the current one."""
        self._old_links.discard(link)
        if link is self._link:
            self._last_failure = str(error) if error is not None else "the relay closed the link"
            self._has_failed = True
            self._replace_link()

    # Dialling.

    def _replace_link(self) -> None:
        self._link = None
        now = self._clock.monotonic()
        self._backoff.held(now - self._linked_at, lasting_seconds=STEADY_SECONDS)
        if not self._closed:
            self._start_dialling(self._backoff.next_delay_seconds(now))

    async def _wait_for_link(self) -> Link:
        dialling = self._dialling_now()
        try:
            return await _outcome(dialling)
        except Unauthenticated:
            if self._dialling is dialling and self._token == self._dialled_with:
                raise
            # A token has come since. The first of those who wait begins an attempt with it, and the others join that.
            return self._link if self._link is not None else await _outcome(self._dialling_now())

    def _dialling_now(self) -> asyncio.Task[Link]:
        """The attempt that is under way, for all who wait; a new one where there is none."""
        dialling = self._dialling
        return self._start_dialling(0.0) if dialling is None or dialling.done() else dialling

    def _start_dialling(self, delay_seconds: float) -> asyncio.Task[Link]:
        if self._closed:
            raise _closed()
        self._dialling = asyncio.create_task(self._dial_until_linked(delay_seconds), name="trunkline-dial")
        self._dialling.add_done_callback(_retrieve)
        return self._dialling

    async def _dial_until_linked(self, delay_seconds: float) -> Link:
        asked_seconds = 0.0
        while True:
            await self._pause(delay_seconds, asked_seconds)
            self._dialled_with = self._token
            try:
                link = await self._dial(self, self._dialled_with)
            except ChannelError as error:
                _raise_if_permanent(error)
                self._last_failure = str(error)
                self._has_failed = True
                asked_seconds = _asked_delay_seconds(error)
                delay_seconds = self._backoff.next_delay_seconds(
                    self._clock.monotonic(), at_least_seconds=asked_seconds
                )
            else:
                self._link = link
                self._has_failed = False
                self._linked_at = self._clock.monotonic()
                return link

    async def _pause(self, delay_seconds: float, asked_seconds: float) -> None:
        """Wait before an attempt: where a call wants the link, not much longer than the relay has asked for."""
        least_seconds = min(delay_seconds, asked_seconds + WANTED_SECONDS)
        await asyncio.sleep(least_seconds)
        if self._waiting or delay_seconds == least_seconds:
            return
        self._wanted.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_seconds - least_seconds):
                await self._wanted.wait()


async def _outcome(dialling: asyncio.Task[Link]) -> Link:
    """What came of an attempt that others wait for too, whom it stays for when this caller is cancelled.

    Raises:
        Unreachable: the keeper was closed meanwhile. Its own end is no cancellation of those who wait.
        TrunklineError: as the attempt.
    """
    await asyncio.wait([dialling])
    if dialling.cancelled():
        raise _closed()
    return dialling.result()


def _closed() -> Unreachable:
    return Unreachable("this sender is closed", retry=False)


def _raise_if_permanent(error: ChannelError) -> None:
    if isinstance(error, LinkRefused):
        if error.status in _PERMANENT_STATUSES:
            raise refused_link(error) from None
    elif isinstance(error, HandshakeFailed):
        raise Unreachable(str(error), retry=False) from None


def _asked_delay_seconds(error: ChannelError) -> float:
    return float(error.retry_after_seconds or 0.0) if isinstance(error, LinkRefused) else 0.0


def _retrieve(dialling: asyncio.Task[Link]) -> None:
    """Look at a failed attempt that nobody waits for any more, so that it is not reported as forgotten."""
    with contextlib.suppress(asyncio.CancelledError):
        dialling.exception()
