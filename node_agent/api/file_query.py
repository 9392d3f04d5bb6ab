"""What a request about files says in its query: parsed to the byte, since names of files are bytes."""

import re
from urllib.parse import parse_qsl

from aiohttp import web

from node_agent.api.routing import ApiRefused
from node_agent.files.admission import Asked, Direction
from trunkline.files.names import NameRefused, parts_of

PLACE_KEYS = ("path", "below", "user")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}\$?", re.ASCII)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MOST_KEYS = 16


class FileQuery:
    """The query of one request, whose keys the route has checked."""

    def __init__(self, request: web.Request) -> None:
        """Take a query apart.

        Raises:
            ApiRefused: it is none.
        """
        try:
            pairs = parse_qsl(
                request.rel_url.raw_query_string,
                keep_blank_values=True,
                strict_parsing=True,
                errors="surrogateescape",
                max_num_fields=_MOST_KEYS,
            )
        except ValueError:
            raise _wrong("query", "keys and values, percent-encoded") from None
        self._values = dict(pairs)

    def asked(self, direction: Direction) -> Asked:
        """Return what is asked for: `path`, and `below` and `user` if they are given."""
        user = self._values.get("user")
        if user is not None and not _USER.fullmatch(user):
            raise _wrong("user", "the name of a user")
        try:
            below = parts_of(self._values.get("below", ""))
        except NameRefused as error:
            raise ApiRefused(400, "INVALID_PARAMETER_VALUE", str(error)) from None
        return Asked(direction, self.text("path"), below, user)

    def text(self, key: str) -> str:
        """Return what must be given."""
        value = self._values.get(key)
        if value is None:
            raise _wrong(key, "given")
        return value

    def optional_text(self, key: str) -> str | None:
        """Return what may be given."""
        return self._values.get(key)

    def number(self, key: str, default: int | None = None) -> int:
        """Return a number from 0 on; it must be given where there is no default."""
        value = self.optional_number(key)
        if value is None and default is None:
            raise _wrong(key, "given")
        return value if value is not None else default or 0

    def optional_number(self, key: str) -> int | None:
        """Return a number from 0 on, if it is given."""
        text = self._values.get(key)
        if text is None:
            return None
        if not _NUMBER.fullmatch(text) or int(text) >= 2**63:
            raise _wrong(key, "a number from 0 to 9223372036854775807")
        return int(text)

    def mode(self, default: int | None = None) -> int | None:
        """Return permissions, three octal digits."""
        text = self._values.get("mode")
        if text is None:
            return default
        if not re.fullmatch("[0-7]{3}", text, re.ASCII):
            raise _wrong("mode", "permissions as three octal digits")
        return int(text, 8)

    def flag(self, key: str) -> bool:
        """Return `true` or `false`, which is the default."""
        text = self._values.get(key, "false")
        if text not in ("true", "false"):
            raise _wrong(key, "true or false")
        return text == "true"

    def digest(self, key: str) -> str | None:
        """Return a SHA-256, if it is given."""
        text = self._values.get(key)
        if text is not None and not _DIGEST.fullmatch(text):
            raise _wrong(key, "a SHA-256 as 64 hexadecimal digits")
        return text


def _wrong(key: str, form: str) -> ApiRefused:
    return ApiRefused(400, "INVALID_PARAMETER_VALUE", f"{key} must be {form}")
