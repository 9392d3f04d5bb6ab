"""Reaching a relay through an HTTP proxy: which proxy the environment names, and the CONNECT exchange with it.

`HTTPS_PROXY` names the proxy (`http://` or `https://`, with user and password if it wants Basic authentication) and
`NO_PROXY` the destinations that are dialled directly, read the way curl and Go read them. The exchange is RFC 9110
section 9.3.6; its answer is parsed strictly, and nothing may follow it, because the side that connects speaks first.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast
from urllib.parse import unquote, urlsplit

from trunkline.channel.errors import ConnectionLost, HandshakeFailed
from trunkline.channel.fields import HeadError
from trunkline.channel.heads import parse_response_head

MOST_ANSWER_BYTES: Final = 32_768
_HEAD_END: Final = b"\r\n\r\n"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_PROXY_AUTHENTICATION_REQUIRED: Final = 407


class ProxyRefused(HandshakeFailed):
    """The proxy did not open the connection; `status` is what it answered."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class ProxyAddress:
    """A proxy: `scheme` is http or https; `authorization` is a Proxy-Authorization value, kept out of `repr`."""

    scheme: str
    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    @property
    def secure(self) -> bool:
        """Whether the proxy itself is spoken to over TLS."""
        return self.scheme == "https"

    def __str__(self) -> str:
        """The proxy's address without its credentials, fit for logs."""
        return f"{self.scheme}://{format_authority(self.host, self.port)}"


def parse_proxy_url(url: str) -> ProxyAddress:
    """The proxy that a URL names; a bare `host:port` counts as `http://`.

    Raises:
        ValueError: it is no proxy URL; the message never repeats the URL, which may hold a password.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError(
            "a proxy is given as http://host:port or https://host:port, with user:password@ if it needs it"
        )
    if parts.query or parts.fragment:
        raise ValueError("a proxy URL has no query and no fragment")
    authorization = None
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(credentials.encode()).decode("ascii")
    return ProxyAddress(parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme], authorization)


def proxy_from_environment(host: str, port: int, environ: Mapping[str, str]) -> ProxyAddress | None:
    """The proxy for a destination, by `HTTPS_PROXY` and `NO_PROXY` (the lower-case names win, as in curl).

    Raises:
        ValueError: `HTTPS_PROXY` is no proxy URL.
    """
    url = environ.get("https_proxy") or environ.get("HTTPS_PROXY")
    if not url:
        return None
    exceptions = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    return None if is_excepted(host, port, exceptions) else parse_proxy_url(url)


def is_excepted(host: str, port: int, exceptions: str) -> bool:
    """Whether a `NO_PROXY` list names the destination.

    An entry is `*`, an address, a network such as `10.0.0.0/8`, or a domain, which stands for itself and all below it,
    with or without a leading dot or `*.`. Addresses and domains may carry `:port`.
    """
    name = host.rstrip(".").lower()
    return any(_entry_names(entry, name, port) for entry in re.split(r"[,\s]+", exceptions.lower()) if entry)


def _entry_names(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    address = _read_address(host)
    if "/" in entry:
        return address is not None and _network_holds(entry, address)
    pattern, entry_port = _split_port(entry)
    if entry_port is not None and entry_port != port:
        return False
    if address is not None:
        return _read_address(pattern) == address
    domain = pattern.removeprefix("*").removeprefix(".").rstrip(".")
    return bool(domain) and (host == domain or host.endswith("." + domain))


def _split_port(entry: str) -> tuple[str, int | None]:
    """`host`, `host:port`, `[address]`, `[address]:port`, or an IPv6 address without brackets."""
    match = re.fullmatch(r"(?:\[(?P<inner>[^\]]+)\]|(?P<outer>[^:]+))(?::(?P<port>\d{1,5}))?", entry)
    if match is None:
        return entry, None
    port = match["port"]
    return match["inner"] or match["outer"], None if port is None else int(port)


def _read_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _network_holds(entry: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


def format_authority(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def write_connect(proxy: ProxyAddress, host: str, port: int) -> bytes:
    """The CONNECT request for a destination."""
    authority = format_authority(host, port)
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


class ConnectProtocol(asyncio.Protocol):
    """Asks a proxy for a connection; `done` ends when the transport is free for TLS, or with the refusal.

    The caller bounds the wait, and closes the transport when `done` fails.
    """

    def __init__(self, proxy: ProxyAddress, host: str, port: int, loop: asyncio.AbstractEventLoop) -> None:
        self._proxy = proxy
        self._request = write_connect(proxy, host, port)
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        # Not asked whether it is one: the faster loop's transports only look like asyncio.Transport.
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Collect the answer; once it is whole, read nothing more, since the next bytes belong to TLS."""
        if self.done.done():
            return
        self._received += data
        end = self._received.find(_HEAD_END)
        if end < 0 and len(self._received) <= MOST_ANSWER_BYTES:
            return
        assert self._transport is not None  # noqa: S101  # connection_made comes first
        self._transport.pause_reading()
        error = self._read_answer(end + len(_HEAD_END) if end >= 0 else 0)
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """The proxy hung up."""
        if not self.done.done():
            self.done.set_exception(ConnectionLost(f"the proxy {self._proxy} closed the connection without an answer"))

    def _read_answer(self, end: int) -> HandshakeFailed | None:
        try:
            if end == 0:
                raise HeadError("head_too_large", "the head is too large")
            head = parse_response_head(bytes(self._received[:end]), request_method=b"CONNECT")
        except HeadError as error:
            return HandshakeFailed(f"the proxy {self._proxy} answered with something that is not HTTP/1.1: {error}")
        if head.status == _PROXY_AUTHENTICATION_REQUIRED:
            return ProxyRefused(
                head.status, f"the proxy {self._proxy} wants credentials: put user:password@ in its URL"
            )
        if not 200 <= head.status < 300:  # RFC 9110: any 2xx opens the connection
            return ProxyRefused(head.status, f"the proxy {self._proxy} refused the connection: status {head.status}")
        if len(self._received) > end:
            return HandshakeFailed(f"the proxy {self._proxy} sent bytes before the relay could")
        return None
