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

T = TypeVar("T")


class PageQuery(Query):
    """The parameters that every list takes; an empty `page_token` asks for the first page, as none does."""

    page_size: int = Field(default=DEFAULT_PAGE_SIZE, ge=1, le=LARGEST_PAGE_SIZE)
    page_token: str | None = Field(default=None, max_length=LONGEST_TOKEN)


class Pages:
    """Makes and reads page tokens with the account's key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def start(self, scope: str, query: PageQuery) -> PageKey | None:
        """Return the key after which the page asked for begins; None for the first page.

        Args:
            scope: which list it is, e.g. the path of the request.
            query: the whole query; its filters are part of what the token is bound to.

        Raises:
            ApiError: the token is not one that this list gave.
        """
        if not query.page_token:
            return None
        try:
            raw = base64.urlsafe_b64decode(query.page_token + "=" * (-len(query.page_token) % 4))
            body, tag = raw[:-_TAG_BYTES], raw[-_TAG_BYTES:]
            if not hmac.compare_digest(tag, self._tag(scope, query, body)):
                raise ValueError("foreign")
            return tuple(json.loads(body))
        except (ValueError, binascii.Error, UnicodeDecodeError):
            raise invalid("page_token", "must be the next_page_token of the same list with the same filters") from None

    def cut(
        self, scope: str, query: PageQuery, rows: Sequence[T], key: Callable[[T], PageKey]
    ) -> tuple[Sequence[T], str | None]:
        """Split rows, of which one more than the page holds were asked for, into the page and the next token."""
        if len(rows) <= query.page_size:
            return rows, None
        page = rows[: query.page_size]
        body = json.dumps(key(page[-1]), separators=(",", ":")).encode()
        token = base64.urlsafe_b64encode(body + self._tag(scope, query, body)).rstrip(b"=").decode()
        return page, token

    def _tag(self, scope: str, query: PageQuery, body: bytes) -> bytes:
        filters = query.model_dump_json(exclude={"page_token", "page_size"})
        bound = json.dumps([scope, filters]).encode() + b"\x00" + body
        return hmac.digest(self._key, bound, hashlib.sha256)[:_TAG_BYTES]
