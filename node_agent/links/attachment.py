"""One link as the agent holds it: the streams that it brings, the notices, and how it came to its end."""

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Any

from node_agent.exchanges.control import NoticeReceiver
from trunkline.channel.errors import ChannelError
from trunkline.channel.limits import RateBound
from trunkline.channel.link import Link, LinkStream, StreamHandler
from trunkline.runtime.logs import Logger

LONGEST_RETRY_AFTER_SECONDS = 3600.0
LOG_BURST = 10
LOG_INTERVAL_SECONDS = 60.0
"""Notices of one link that are logged at once, and how often beyond: a relay may send any number, of any type."""

Offer = Callable[[LinkStream, NoticeReceiver], StreamHandler]


class Ending(Enum):
    """Why a link is no longer the one to use."""

    LOST = "lost"
    DRAINING = "draining"
    REPLACED = "replaced"
    SUPERSEDED = "superseded"


class Attachment:
    """The owner of one link. `ending` is done when another link has to take its place.

    `return_within_seconds` is over how long its relay wants its listeners to spread their return, should it go.
    `serial` is that of the certificate which the link was made with, and `relay_serial` that of the one which the relay
    has shown, once it was made.
    """

    def __init__(
        self, url: str, sequence: int, offer: Offer, take_trust: Callable[[object], None], log: Logger
    ) -> None:
        self.url = url
        self.sequence = sequence
        self.link: Link | None = None
        self.serial = ""
        self.relay_serial = ""
        self.retry_after_seconds = 0.0
        self.return_within_seconds = 0
        self._loop = asyncio.get_running_loop()
        self.ending: asyncio.Future[Ending] = self._loop.create_future()
        self._log_bound = RateBound(LOG_BURST, 1 / LOG_INTERVAL_SECONDS, self._loop.time())
        self._offer = offer
        self._take_trust = take_trust
        self._log = log

    def end(self, ending: Ending) -> None:
        """Say that another link has to take this one's place; the first reason counts."""
        if not self.ending.done():
            self.ending.set_result(ending)

    # What the link tells

    def stream_offered(self, stream: LinkStream) -> StreamHandler | None:
        """The relay opens a stream."""
        return self._offer(stream, self._noticed)

    def go_away_received(self, link: Link, code: int) -> None:
        """The relay opens no more streams on this link."""
        self.end(Ending.DRAINING)

    def link_lost(self, link: Link, error: ChannelError | None) -> None:
        """The link is gone."""
        if error is not None and not self.ending.done():
            self._log.warning("link.lost", relay=self.url, sequence=self.sequence, reason=str(error))
        self.end(Ending.LOST)

    def _noticed(self, notice: dict[str, Any]) -> None:
        """The relay says something; what a later release may say is ignored."""
        kind = notice["type"]
        if kind == "trust_document":
            self._take_trust(notice.get("trust_document"))
            return
        if self._log_bound.spend(self._loop.time()):
            self._log.info("link.notice", relay=self.url, sequence=self.sequence, notice=kind[:64])
        seconds = notice.get("retry_after_seconds")
        if isinstance(seconds, int | float) and not isinstance(seconds, bool):
            self.retry_after_seconds = float(min(max(0.0, seconds), LONGEST_RETRY_AFTER_SECONDS))
        if kind == "draining":
            self.end(Ending.DRAINING)
        elif kind == "superseded":
            self.end(Ending.SUPERSEDED)
