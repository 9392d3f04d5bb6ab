"""The agent's side of the control plane's API: JSON over HTTPS, with the node's certificate where it has one."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from certs.control_plane_server import ended_server, foreign_server, server_serial
from certs.errors import CertificateError
from certs.identities import Identity
from certs.trust import CertificateVerdict
from node_agent.identity.control_plane_tls import ControlPlaneTls
from trunkline.channel.proxy_connect import ProxyAddress
from trunkline.client.clock_offset import ClockOffset
from trunkline.client.control_plane_answers import read_object, read_refusal, require_clock, unreachable
from trunkline.client.vetted_connector import VettedConnector
from trunkline.runtime.clock import Clock
from trunkline.version import __version__

FIRST_ERROR_STATUS = 300
NEVER_TAKEN = frozenset({400, 404, 405, 413, 422})
"""Answers about a report itself, or from a control plane that takes none: no repetition will get another."""
TRUST_SEQUENCE_FIELD = "Trunkline-Trust-Sequence"
MOST_SEQUENCE_DIGITS = 16


class ControlPlane:
    """Requests to one control plane. They are rare, so each has a connection of its own."""

    def __init__(
        self,
        url: str,
        tls: ControlPlaneTls,
        *,
        proxy: ProxyAddress | None,
        request_seconds: float,
        clock: Clock,
        clock_offset: ClockOffset,
        verdict: CertificateVerdict,
    ) -> None:
        """Prepare; `verdict` says what has ended the use of a certificate, by its serial number."""
        self.url = url
        self._tls = tls
        self._proxy = proxy
        self._timeout = aiohttp.ClientTimeout(total=request_seconds)
        self._clock = clock
        self._clock_offset = clock_offset
        self._verdict = verdict
        self._told: list[Callable[[int], None]] = []

    def on_trust_sequence(self, told: Callable[[int], None]) -> None:
        """Have `told` called with the number of the newest trust document, which every answer states."""
        self._told.append(told)

    async def call(
        self,
        path: str,
        document: Mapping[str, Any] | None = None,
        *,
        identity: Identity | None = None,
        method: str = "POST",
    ) -> dict[str, Any]:
        """Send one document and return the JSON object of the answer.

        Raises:
            ControlPlaneRefused: it was answered with an error.
            ClockSkewed: its certificate is not valid at the time that this machine's clock shows.
            ControlPlaneUnreachable: it was not answered, or not in a usable way.
        """
        try:
            connector = VettedConnector(self._vet, ssl=self._tls.context(identity), force_close=True)
            async with aiohttp.ClientSession(connector=connector, timeout=self._timeout) as session:
                return await self._ask(session, method, path, document)
        except (TimeoutError, aiohttp.ClientError, OSError, CertificateError) as error:
            way = "" if self._proxy is None else f" through the proxy {self._proxy}"
            raise unreachable(self.url, error, self._clock_offset, way) from None

    def require_clock(self) -> None:
        """Refuse to go on with a clock that the last answer showed to be wrong.

        Raises:
            ClockSkewed: it is off by more than is tolerated.
        """
        require_clock(self._clock_offset)

    def _vet(self, transport: asyncio.BaseTransport) -> str | None:
        return foreign_server(transport) or ended_server(server_serial(transport), self._verdict)

    async def _ask(
        self, session: aiohttp.ClientSession, method: str, path: str, document: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        sent_at = self._clock.now()
        async with session.request(
            method,
            self.url + path,
            json=(document or {}) if method == "POST" else None,
            allow_redirects=False,
            headers={"User-Agent": f"trunkline-node-agent/{__version__}"},
            proxy=None if self._proxy is None else str(self._proxy),
            proxy_headers=self._proxy_headers(),
        ) as response:
            self._clock_offset.observe(response.headers.get("Date"), sent_at, self._clock.now())
            self._note_trust_sequence(response.headers.get(TRUST_SEQUENCE_FIELD, ""))
            if response.status >= FIRST_ERROR_STATUS:
                raise await read_refusal(response)
            return await read_object(response)

    def _note_trust_sequence(self, stated: str) -> None:
        if stated.isascii() and stated.isdigit() and len(stated) <= MOST_SEQUENCE_DIGITS:
            for told in self._told:
                told(int(stated))

    def _proxy_headers(self) -> dict[str, str] | None:
        if self._proxy is None or self._proxy.authorization is None:
            return None
        return {"Proxy-Authorization": self._proxy.authorization}
