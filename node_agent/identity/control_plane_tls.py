"""The TLS to the control plane, trusted as the settings say: by a CA file, by a root's hash, or by the public CAs."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from certs.errors import CertificateError
from certs.identities import Identity
from certs.pins import Streams, fetch_pinned_root
from certs.tls import TlsContext, client_context
from trunkline.channel.heads import HeadError, parse_response_head
from trunkline.channel.proxy_connect import ProxyAddress, write_connect

DEFAULT_PORT = 443


class ControlPlaneTls:
    """Makes contexts for requests to one control plane. A pinned root is fetched when it is first needed, and kept."""

    def __init__(self, url: str, *, ca_file: Path | None, root_sha256: str | None, proxy: ProxyAddress | None) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or DEFAULT_PORT
        self._ca_file = ca_file
        self._root_sha256 = root_sha256
        self._proxy = proxy
        self._root: x509.Certificate | None = None

    async def context(self, identity: Identity | None) -> TlsContext:
        """Return a context that presents `identity`.

        Raises:
            CertificateError: the CA file, the pin or the identity cannot be used, or the pinned root is not presented.
            OSError: the control plane is not there to present it.
        """
        if self._root_sha256 is None:
            return client_context(ca_file=self._ca_file, identity=identity)
        if self._root is None:
            connect = None if self._proxy is None else self._connect
            self._root = await fetch_pinned_root(self._host, self._port, self._root_sha256, connect=connect)
        return client_context([self._root], identity=identity)

    def check(self) -> None:
        """Look at what can be looked at without a connection.

        Raises:
            CertificateError: the CA file cannot be used.
        """
        client_context(ca_file=self._ca_file)

    async def _connect(self) -> Streams:
        """Open the bytes to the control plane through the proxy."""
        proxy = self._proxy
        if proxy is None:
            raise AssertionError("there is no proxy to connect through")
        tls = client_context() if proxy.secure else None
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port, ssl=tls)
        try:
            writer.write(write_connect(proxy, self._host, self._port))
            head = await reader.readuntil(b"\r\n\r\n")
            status = parse_response_head(head, request_method=b"CONNECT").status
        except (HeadError, EOFError, asyncio.LimitOverrunError):
            status = 0
        if not 200 <= status < 300:
            writer.close()
            raise CertificateError(f"the proxy {proxy} does not connect to the control plane")
        return reader, writer
