"""The way to one node: which of the relays to call it through, and what to do when one of them does not have it.

A call that certainly did not reach the node (`TrunklineError.never_sent`) is made again at the other relays, once each.
Those that have a link come first, and among them the one that had the node last; those to which the link was lost, or
could not be made, come last. A node that is about to make a new
link, because a relay drains or its certificate was renewed, is away from a relay for a moment: so the first relay that
has a link is asked once more in the end, after a pause. Where none has one yet, all of them are dialled still, and the
first to have one is taken: a far or lossy way, or a slow resolver, may need longer than the patience for one relay.
What may have reached the node is never made again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from trunkline.client.errors import PermissionRefused, TrunklineError, Unauthenticated, Unreachable
from trunkline.client.node_sender import LINK_TIMEOUT_SECONDS, NodeSender
from trunkline.client.records.tokens import AccessToken
from trunkline.client.relays import Relays

T = TypeVar("T")
Attempt = tuple[str, NodeSender, float]
"""A relay's address, the sender to it, and for how many seconds its link is waited for."""

PATIENCE_SECONDS = 3.0
"""How long a link is waited for while there are other relays to try."""
PAUSE_SECONDS = (0.05, 0.15)
"""Between which bounds the pause before the last attempt is, at random."""
MOMENT_SECONDS = 0.05
"""So long is looked at least whether a link has come up meanwhile."""


class Route:
    """The way to one node; remembers the relay that had it last."""

    def __init__(self, relays: Relays, *, rng: random.Random | None = None) -> None:
        self._relays = relays
        self._rng = rng or random.SystemRandom()
        self._last = ""

    async def call(self, token: AccessToken, make: Callable[[NodeSender], Awaitable[T]]) -> T:
        """Make a call, by a function that can be called again, through the relays that the token names.

        Raises:
            TrunklineError: what `make` raised that may have reached the node, or the last reason why it did not.
        """
        failure: TrunklineError = _no_relay()
        relays = self._round(token)
        give_up_at = _give_up_at()
        for number in range(len(relays) + 1):
            attempt = relays[number] if number < len(relays) else await self._once_more(token, relays, give_up_at)
            if attempt is None:
                break
            url, sender, patience_seconds = attempt
            try:
                await sender.connect(token.token, timeout_seconds=patience_seconds)
                answer = await make(sender)
            except TrunklineError as error:
                if not error.never_sent or isinstance(error, Unauthenticated | PermissionRefused):
                    raise  # a token that one relay does not take is taken by none
                failure = _worse(failure, error)
            else:
                self._last = url
                return answer
        raise failure

    async def linked(self, token: AccessToken) -> NodeSender:
        """The sender to the first relay that can be reached, its link open.

        Raises:
            Unreachable: none can be, or the token names none.
            RelayRefused: the relay refuses the token.
        """
        failure: TrunklineError = _no_relay()
        relays = self._round(token)
        give_up_at = _give_up_at()
        for _, sender, patience_seconds in relays:
            try:
                await sender.connect(token.token, timeout_seconds=patience_seconds)
            except Unreachable as error:
                failure = error
            else:
                return sender
        late = await _first_to_link(token, relays, give_up_at)
        if late is None:
            raise failure
        return late[1]

    async def _once_more(self, token: AccessToken, relays: list[Attempt], give_up_at: float) -> Attempt | None:
        """Wait a moment for the node: the first relay that has a link, or else the first that gets one."""
        linked = next((attempt for attempt in relays if attempt[1].linked), None)
        if linked is None:
            return await _first_to_link(token, relays, give_up_at)
        await asyncio.sleep(self._rng.uniform(*PAUSE_SECONDS))
        return linked

    def _round(self, token: AccessToken) -> list[Attempt]:
        """Each relay once."""
        senders = sorted(
            self._relays.senders(token.relays).items(),
            key=lambda entry: (not entry[1].linked, entry[1].failing, entry[0] != self._last),
        )
        patience = PATIENCE_SECONDS if len(senders) > 1 else LINK_TIMEOUT_SECONDS
        return [(url, sender, patience) for url, sender in senders]


def _give_up_at() -> float:
    """When links are not waited for any longer, in the loop's time: with several relays as with one."""
    return asyncio.get_running_loop().time() + LINK_TIMEOUT_SECONDS


async def _first_to_link(token: AccessToken, relays: list[Attempt], give_up_at: float) -> Attempt | None:
    """Of the relays that have a link or are dialled still, the first that has one; None if none has in time."""
    seconds = max(MOMENT_SECONDS, give_up_at - asyncio.get_running_loop().time())
    connecting = {
        asyncio.ensure_future(attempt[1].connect(token.token, timeout_seconds=seconds)): attempt
        for attempt in relays
        if attempt[1].linking
    }
    try:
        for connected in asyncio.as_completed(connecting):
            with contextlib.suppress(TrunklineError):
                await connected
                return next(attempt for attempt in relays if attempt[1].linked)
        return None
    finally:
        for task in connecting:
            task.cancel()
        await asyncio.gather(*connecting, return_exceptions=True)


def _worse(failure: TrunklineError, error: TrunklineError) -> TrunklineError:
    """Of two reasons the one to tell: a relay that says something of the node says more than one that is not there."""
    return failure if isinstance(error, Unreachable) and not isinstance(failure, Unreachable) else error


def _no_relay() -> Unreachable:
    return Unreachable("the control plane names no relay; has one been enrolled?", retry=False)
