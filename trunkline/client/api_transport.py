"""The HTTP side of the control plane's API: one JSON request and its answer, with deadlines and careful repetition.

A request is made again only where that cannot do harm: the connection was never made, or the caller says that the
request is safe to repeat and the answer was 429, 502, 503 or 504, or never came. The deadline bounds all attempts
together.
"""

from __future__ import annotations

import asyncio
import io
import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import aiohttp

from certs.control_plane_server import foreign_server
from trunkline.client.connection_failures import failure_reason
from trunkline.client.distrust import remedy
from trunkline.client.errors import ApiError, BadResponse, DeadlineExceeded, RequestInvalid, TrunklineError, Unreachable
from trunkline.client.lifetime import Lifetime
from trunkline.client.outbound_proxy import outbound_proxy
from trunkline.client.retry_after import read_retry_after
from trunkline.client.vetted_connector import ServerRefused, VettedConnector
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock, SystemClock
from trunkline.runtime.secret import Secret
from trunkline.version import __version__

if TYPE_CHECKING:
    from certs.tls import TlsContext

API_TIMEOUT_SECONDS = 30.0
CONNECT_TIMEOUT_SECONDS = 10.0
UPLOAD_SECONDS = 60.0
MOST_CONNECTIONS = 256
LARGEST_ANSWER_BYTES = 16_777_216
_LARGEST_ERROR_BYTES = 65_536
_PIECE_BYTES = 65_536
_FAREWELL_SECONDS = 0.1
_REPEAT_STATUSES = frozenset({429, 502, 503, 504})

Query = Mapping[str, str | int | None] | list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class StreamedBody:
    """A body as it arrives, and the fields of the head before it."""

    pieces: AsyncIterator[bytes]
    fields: Mapping[str, str]

    def field(self, name: str) -> str:
        """The field of that name, in any case, or an empty text."""
        return self.fields.get(name, "")


def path_of(*segments: str) -> str:
    """A path below the API's root, each segment escaped.

    Raises:
        RequestInvalid: a segment is empty, `.` or `..`, which would make it another path, or is no text.
    """
    for segment in segments:
        if segment in ("", ".", ".."):
            raise RequestInvalid(f"{segment!r} is no name or id")
    try:
        return "/" + "/".join(quote(segment, safe="") for segment in segments)
    except UnicodeEncodeError:
        raise _not_text() from None


class ApiTransport:
    """Requests to one control plane; use as an asynchronous context manager, or call `close`."""

    def __init__(
        self,
        url: str,
        token: Secret,
        *,
        ssl_context: TlsContext,
        timeout_seconds: float = API_TIMEOUT_SECONDS,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Make a transport that has no connection yet.

        Raises:
            ValueError: `url` is not ``https://host[:port]``.
        """
        self.url = _checked(url)
        self._token = token
        self._ssl_context = ssl_context
        self._timeout_seconds = timeout_seconds
        self._clock = clock or SystemClock()
        self._rng = rng or random.SystemRandom()
        self._session: aiohttp.ClientSession | None = None
        self._lifetime = Lifetime()
        self._gave_up = False
        self._proxy = outbound_proxy(self.url)
        # For messages: what does not answer may be the proxy.
        self._way = "" if self._proxy is None else f" through the proxy {self._proxy} (HTTPS_PROXY)"

    async def close(self) -> None:
        """Close all connections; what is asked for later is `Unreachable`."""
        self._lifetime.end()
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._gave_up:  # see `_request`
            await asyncio.sleep(_FAREWELL_SECONDS)
            self._gave_up = False

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        document: Mapping[str, Any] | None = None,
        safe: bool = True,
        timeout_seconds: float | None = None,
    ) -> dict[str, Any]:
        """Make one request and return the JSON object of its answer.

        Args:
            method: the HTTP method.
            path: from the root, see `path_of`.
            query: parameters; those that are None are left out.
            document: the JSON body.
            safe: whether the request may be repeated after it perhaps arrived. Every request of the API may; what
                would leave something unused behind says no.
            timeout_seconds: bound for all attempts together.

        Raises:
            ApiError: the control plane refused.
            Unreachable: no connection could be made.
            DeadlineExceeded: no answer in time.
            BadResponse: the answer is not a JSON object, or too large.
            RequestInvalid: what is asked for is no text.
        """
        timeout_seconds = timeout_seconds or self._timeout_seconds
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._repeat(method, path, query, document, repeatable=safe)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the control plane {self.url} did not answer{self._way} within {timeout_seconds:g} s"
            ) from None

    async def upload(self, path: str, content: bytes, *, query: Query | None = None) -> dict[str, Any]:
        """Make one PUT of bytes, once, and return the JSON object of its answer; raises as `call`."""
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                return await self._attempt("PUT", path, query, None, content)
        except TimeoutError:
            raise DeadlineExceeded(f"the control plane {self.url} did not answer{self._way}") from None

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: Query | None = None, head_seconds: float | None = None
    ) -> AsyncIterator[StreamedBody]:
        """The body of a GET piece by piece as it arrives, for outputs that may last for hours.

        Raises:
            DeadlineExceeded: the answer did not begin within `head_seconds`.
            TrunklineError: as `call`; inside the block too when the connection is lost.
        """
        deadline = asyncio.timeout(head_seconds)
        try:
            async with deadline, self._request("GET", path, query) as response:
                if response.status >= 300:
                    raise await _read_error(response)
                deadline.reschedule(None)
                yield StreamedBody(_pieces(response), response.headers)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise DeadlineExceeded(f"the control plane {self.url} did not answer{self._way}") from error
        except aiohttp.ClientError as error:
            raise self._unreachable(error) from None

    async def _repeat(
        self, method: str, path: str, query: Query | None, document: Mapping[str, Any] | None, *, repeatable: bool
    ) -> dict[str, Any]:
        backoff = Backoff(self._rng, cap_seconds=5.0)
        give_up_at = self._clock.monotonic() + CONNECT_TIMEOUT_SECONDS
        perhaps_done = False
        while True:
            try:
                return await self._attempt(method, path, query, document)
            except ApiError as error:
                if perhaps_done and method == "DELETE" and error.status == HTTPStatus.NOT_FOUND:
                    return {}  # the attempt whose answer was lost has deleted it
                failure: TrunklineError = error
                again = repeatable and error.status in _REPEAT_STATUSES
                perhaps_done |= error.status != HTTPStatus.TOO_MANY_REQUESTS
            except Unreachable as error:
                failure = error
                again = error.retry and (repeatable or not error.perhaps_arrived)
                perhaps_done |= error.perhaps_arrived
            if not again or self._clock.monotonic() >= give_up_at:
                raise failure
            asked_seconds = failure.retry_after_seconds or 0.0 if isinstance(failure, ApiError) else 0.0
            await asyncio.sleep(backoff.next_delay_seconds(self._clock.monotonic(), at_least_seconds=asked_seconds))

    async def _attempt(
        self,
        method: str,
        path: str,
        query: Query | None,
        document: Mapping[str, Any] | None,
        content: bytes | None = None,
    ) -> dict[str, Any]:
        body: dict[str, Any] = {} if content is None else {"data": io.BytesIO(content)}
        if document is not None:
            body = {"data": _encoded(document), "headers": {"Content-Type": "application/json"}}
        try:
            async with self._request(method, path, query, **body) as response:
                if response.status >= 300:
                    raise await _read_error(response)
                return _object_of(await _read_bounded(response, LARGEST_ANSWER_BYTES))
        except aiohttp.ClientError as error:
            raise self._unreachable(error) from None
        except UnicodeEncodeError:
            raise _not_text() from None

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, query: Query | None, **body: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request; aiohttp ends the TLS connection of one that is given up in its own time."""
        response = None
        try:
            async with self._open_session().request(
                method, self.url + path, params=_parameters(query), **body, **self._options()
            ) as response:
                yield response
        finally:
            self._gave_up |= response is None or not response.content.at_eof()

    def _open_session(self) -> aiohttp.ClientSession:
        self._lifetime.check()
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=VettedConnector(foreign_server, ssl=self._ssl_context, limit=MOST_CONNECTIONS),
                headers={"Authorization": f"Bearer {self._token.reveal()}", "User-Agent": f"trunkline/{__version__}"},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_SECONDS),
                auto_decompress=False,
                proxy=None if self._proxy is None else str(self._proxy),
            )
        return self._session

    def _options(self) -> dict[str, Any]:
        authorization = self._proxy.authorization if self._proxy is not None else None
        return {
            "allow_redirects": False,
            "proxy_headers": {"Proxy-Authorization": authorization} if authorization is not None else None,
        }

    def _unreachable(self, error: aiohttp.ClientError) -> Unreachable:
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            untrusted = error.certificate_error
            mended = remedy(untrusted, roots="TRUNKLINE_CA_FILE, ca_file", address="TRUNKLINE_CONTROL_PLANE_URL")
            reason = f"the certificate of the control plane {self.url} is not trusted: {untrusted}{mended}"
            return Unreachable(reason, retry=False)
        if isinstance(error, ServerRefused):
            return Unreachable(f"what answers for the control plane {self.url} is not it: {error}", retry=False)
        perhaps_arrived = not isinstance(error, aiohttp.ClientConnectorError)
        message = f"cannot reach the control plane {self.url}{self._way}: {failure_reason(error)}"
        return Unreachable(message, perhaps_arrived=perhaps_arrived)


def _checked(url: str) -> str:
    """The address without a slash at its end; the message of a refusal repeats nothing that may be a password."""
    url = url.strip().rstrip("/")
    parts, form = urlsplit(url), "the control plane's address must be https://host[:port]"
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{form}, without a user or password")
    try:
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        has_port = False
    if parts.scheme != "https" or not parts.hostname or not has_port or parts.query or parts.fragment:
        raise ValueError(f"{form}, not {url!r}")
    return url


def _not_text() -> RequestInvalid:
    return RequestInvalid("what is asked for has bytes that are not UTF-8, and only text can be asked for")


def _encoded(document: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _not_text() from None


def _parameters(query: Query | None) -> list[tuple[str, str]]:
    if query is None:
        return []
    if isinstance(query, list):
        return query
    return [(name, str(value)) for name, value in query.items() if value is not None]


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async for piece in response.content.iter_any():
        yield piece


async def _read_bounded(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_chunked(_PIECE_BYTES):
        body += piece
        if len(body) > limit_bytes:
            raise BadResponse(f"the answer of the control plane is larger than {limit_bytes} bytes")
    return bytes(body)


def _object_of(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise BadResponse("the answer of the control plane is not a JSON object; is the address right?")
    return document


async def _read_error(response: aiohttp.ClientResponse) -> ApiError:
    try:
        document = _object_of(await _read_bounded(response, _LARGEST_ERROR_BYTES))
    except BadResponse:
        document = {}
    details = document.get("details")
    return ApiError(
        response.status,
        str(document.get("error_code", "")),
        str(document.get("message") or f"the control plane answered with status {response.status}"),
        details=[entry for entry in details if isinstance(entry, dict)] if isinstance(details, list) else (),
        retry_after_seconds=read_retry_after(response.headers.get("Retry-After", "")),
    )
