"""Pages of long lists: opaque tokens that say where the next page begins.

A token is the key of the last row of the page before, bound by an HMAC to the list and filters that it came from, so
that a token cannot be made up, or used on another list.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from typing import TypeVar

from pydantic import Field

from control_plane.api.requests import Query
from control_plane.errors import invalid

PageKey = tuple[str | int, ...]

DEFAULT_PAGE_SIZE = 100
LARGEST_PAGE_SIZE = 1000
LONGEST_TOKEN = 2048
_TAG_BYTES = 16

R = TypeVar("R")
T = TypeVar("T")


class PageQuery(Query):
    """The parameters that every list takes; an empty `page_token` asks for the first page, as none does."""

    page_size: int = Field(default=DEFAULT_PAGE_SIZE, ge=1, le=LARGEST_PAGE_SIZE)
    page_token: str | None = Field(default=None, max_length=LONGEST_TOKEN)


class Pages:
    """Makes and reads page tokens with the account's key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def asked_for(self, scope: str, query: PageQuery) -> "AskedPage":
        """Return the page that a request asks for.

        Args:
            scope: which list it is, e.g. the path of the request.
            query: the whole query; its filters are part of what tokens are bound to.

        Raises:
            ApiError: the token is not one that this list gave.
        """
        return AskedPage(self._key, scope, query)


class AskedPage:
    """One page of a list, from the question to storage to the answer.

    Attributes:
        start: the key after which the page begins; None for the first page.
    """

    __slots__ = ("_bound", "_key", "_size", "start")

    def __init__(self, key: bytes, scope: str, query: PageQuery) -> None:
        filters = query.model_dump_json(exclude={"page_token", "page_size"})
        self._key = key
        self._bound = json.dumps([scope, filters]).encode() + b"\x00"
        self._size = query.page_size
        self.start: PageKey | None = self._read(query.page_token) if query.page_token else None

    @property
    def most_rows(self) -> int:
        """How many rows to look for: one more than the page holds, which tells whether there is a next page."""
        return self._size + 1

    def after(self, read: Callable[[str | int], T]) -> T | None:
        """Return the first part of the key after which the page begins, as `read` makes it; None for the first page."""
        return None if self.start is None else read(self.start[0])

    def cut(self, rows: Sequence[R], key: Callable[[R], PageKey]) -> tuple[Sequence[R], dict[str, str]]:
        """Split the rows found into the page, and what the answer says of the next one: nothing on the last page.

        Args:
            rows: at most `most_rows`, in the order of the list.
            key: the key of a row.
        """
        if len(rows) <= self._size:
            return rows, {}
        page = rows[: self._size]
        body = json.dumps(key(page[-1]), separators=(",", ":")).encode()
        token = base64.urlsafe_b64encode(body + self._tag(body)).rstrip(b"=").decode()
        return page, {"next_page_token": token}

    def _read(self, token: str) -> PageKey:
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            body, tag = raw[:-_TAG_BYTES], raw[-_TAG_BYTES:]
            if not hmac.compare_digest(tag, self._tag(body)):
                raise ValueError("foreign")
            return tuple(json.loads(body))
        except (ValueError, binascii.Error, UnicodeDecodeError):
            raise invalid("page_token", "must be the next_page_token of the same list with the same filters") from None

    def _tag(self, body: bytes) -> bytes:
        return hmac.digest(self._key, self._bound + body, hashlib.sha256)[:_TAG_BYTES]
