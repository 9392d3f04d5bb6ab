"""Requests that a web page of somewhere else makes a browser send, told by what no page can leave out or change.

Browsers say Sec-Fetch-Site only to https and to this machine's own addresses, of which no node is one. Origin is in
every request that is neither GET nor HEAD, in those whose answer the page could read, and in those for a WebSocket,
which come in a tunnel. What is left are pages that lead to a node by a plain GET, as any link does.
"""

from __future__ import annotations

import asyncio

from trunkline.channel.fields import HEAD_END, MAX_HEAD_BYTES, HeadError
from trunkline.channel.heads import RequestHead, parse_request_head
from trunkline.channel.targets import HTTP_PORT
from trunkline.client.errors import TrunklineError

REFUSAL = "requests that another site makes a browser send are not taken"
_GET = b"GET "
_LINE_END = b" HTTP/1.1\r"  # of every request for a WebSocket (RFC 6455 section 4.1)


class ForeignPage(TrunklineError):  # noqa: N818 - named for what happened
    """A page of another site has had a browser send this."""


def of_foreign_page(head: RequestHead) -> bool:
    """Whether another origin than the one that is asked has made a browser send the request."""
    if (head.get(b"sec-fetch-site") or b"").lower() in (b"cross-site", b"same-site"):
        return True
    origin = head.get(b"origin")
    return origin is not None and origin.lower() != _origin_of(head)


class TunnelledRequest:
    """What a local program sends into a tunnel; if it begins with a request for a WebSocket, that is looked at first.

    Attributes:
        refused: whether it was one of another site's page.
    """

    def __init__(self, reader: asyncio.StreamReader, early: bytes = b"") -> None:
        """`early` came with the CONNECT, of a program that does not wait for its answer."""
        self._reader = reader
        self._early = early
        self._looked = False
        self.refused = False

    async def read(self, size: int) -> bytes:
        """Read as from the program itself.

        Raises:
            ForeignPage: another site has made a browser send it; nothing of it was given out.
        """
        if self._looked:
            return await self._reader.read(size)
        self._looked = True
        beginning = await self._beginning(size)
        self.refused = _names_foreign_page(beginning)
        if self.refused:
            raise ForeignPage(REFUSAL)
        return beginning

    async def _beginning(self, size: int) -> bytes:
        """Read until there is a whole head, or what cannot become the one of a GET."""
        held = self._early
        while not held or _may_become_a_get(held):
            piece = await self._reader.read(size)
            if not piece:
                break
            held += piece
        return held


def _may_become_a_get(held: bytes) -> bool:
    line, line_end, _ = held.partition(b"\n")
    if line_end and not line.endswith(_LINE_END):
        return False  # other protocols have a GET too, such as Redis's inline commands
    return held[: len(_GET)] == _GET[: len(held)] and HEAD_END not in held and len(held) <= MAX_HEAD_BYTES


def _names_foreign_page(beginning: bytes) -> bool:
    raw, end, _ = beginning.partition(HEAD_END)
    if not end or not raw.startswith(_GET):
        return False
    try:
        return of_foreign_page(parse_request_head(raw + end))
    except HeadError:
        return False  # browsers write none that are refused


def _origin_of(head: RequestHead) -> bytes:
    """Return the origin that is asked, as browsers write it (RFC 6454 section 6.2)."""
    port = b"" if head.port in (None, HTTP_PORT) else b":%d" % head.port
    return b"http://%b%b" % (head.host or b"", port)
