"""Trust documents on their way down the listeners' links: written once for all, and begun with a few in a turn.

Theory of operation. A document may have megabytes, and a relay thousands of listeners. The request that brings it is
made once, and all listeners are sent the same bytes. In each turn of the event loop as many pushes begin as take some
tenths of a millisecond, between which calls have theirs; how each goes on is its reader's pace. So many are under way
at once that none has to wait for the network past its own deadline. Readers that stand still hold up nobody: what was
begun a while ago is no longer counted. A listener that is sent a document while the next one is published gets the
newest once the first has ended, and none between them.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Final

from relay.links.listeners import Listener
from relay.links.notices import write_notice

TRUST_DOCUMENT: Final = "trust_document"
MOST_UNDER_WAY: Final = 1024
PATIENCE_SECONDS: Final = 1.0
"""After so long those that are under way make room for as many others, whatever has become of them."""
MOST_IN_A_TURN: Final = 8
BYTES_IN_A_TURN: Final = 128 * 1024
FIRST_BYTES: Final = 64 * 1024
"""What is written of a document when its push begins, at most: the window of a stream between our own ends."""


class TrustPushes:
    """The newest trust document, and who is yet to be sent it."""

    def __init__(self, ended: Callable[[str, str], None]) -> None:
        """Begin without a document; `ended` hears the kind of notice and what came of it, once for each push."""
        self._tell_ended = ended
        self._notice: bytes | None = None
        self._waiting: dict[Listener, None] = {}
        self._sending: dict[Listener, bytes] = {}
        self._counted: set[Listener] = set()
        self._turn: asyncio.Handle | None = None
        self._patience: asyncio.TimerHandle | None = None

    def publish(self, document: str, listeners: Iterable[Listener]) -> None:
        """Send a document (JWS) to these listeners, and to those that come from now on."""
        self._notice = write_notice(TRUST_DOCUMENT, trust_document=document)
        self._waiting |= dict.fromkeys(listeners)
        self._go_on()

    def add(self, listener: Listener) -> None:
        """Send the newest document to a listener that has come, if there is one."""
        if self._notice is not None:
            self._waiting[listener] = None
            self._go_on()

    def discard(self, listener: Listener) -> None:
        """Begin nothing more for a listener that has gone."""
        self._waiting.pop(listener, None)

    def _go_on(self) -> None:
        """See to it that whoever waits has a turn, as soon as there is room."""
        if not self._waiting:
            return
        loop = asyncio.get_running_loop()
        if len(self._counted) < MOST_UNDER_WAY:
            if self._turn is None:
                self._turn = loop.call_soon(self._take_turn)
        elif self._patience is None:
            self._patience = loop.call_later(PATIENCE_SECONDS, self._lose_patience)

    def _take_turn(self) -> None:
        self._turn = None
        notice = self._notice
        if notice is None:
            return
        most = min(MOST_IN_A_TURN, BYTES_IN_A_TURN // min(len(notice), FIRST_BYTES))
        for listener in list(islice(self._waiting, min(most, MOST_UNDER_WAY - len(self._counted)))):
            del self._waiting[listener]
            if listener not in self._sending:  # else it gets the newest when that has ended
                self._begin(listener, notice)
        self._go_on()

    def _begin(self, listener: Listener, notice: bytes) -> None:
        self._sending[listener] = notice
        self._counted.add(listener)
        listener.push_trust(notice, partial(self._ended, listener))

    def _ended(self, listener: Listener, result: str) -> None:
        self._tell_ended(TRUST_DOCUMENT, result)
        self._counted.discard(listener)
        if self._sending.pop(listener) is not self._notice:
            self._waiting[listener] = None
        self._go_on()

    def _lose_patience(self) -> None:
        self._patience = None
        self._counted.clear()
        self._go_on()
