"""Dialling a relay: TCP, perhaps through a proxy, then TLS, then the link upgrade, then a Link on the connection.

One total deadline bounds everything. Of several addresses of a name the first one at which TLS comes up is taken (see
`connecting`), and only there anything is said. Every way to fail ends in a ChannelError: `ConnectionLost` where trying
again may help (nobody there, nobody answers, cut off), `HandshakeFailed` where the other side, or the proxy, or the
certificate check said no; of these `LinkRefused` carries the relay's own words. The link takes the transport over
inside the very call that parses the `101`, so that no byte behind it can be missed.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Literal
from urllib.parse import urlsplit
from uuid import UUID

from trunkline.channel.addresses import Address, Addresses
from trunkline.channel.connecting import connect_first, connect_reason
from trunkline.channel.errors import ConnectionLost, HandshakeFailed
from trunkline.channel.limits import CreditBudget, Limits
from trunkline.channel.link import Link, LinkOwner
from trunkline.channel.proxy_connect import ConnectProtocol, ProxyAddress, format_authority
from trunkline.channel.session import Role
from trunkline.channel.terms import OWN_TERMS, LinkTerms
from trunkline.channel.upgrade import Carrier, LinkRefused, LinkRequest
from trunkline.channel.upgrade_protocol import CutBeforeTls, PeerRefusal, UpgradeBroken, UpgradeProtocol
from trunkline.channel.websocket_fields import new_websocket_key

CarrierChoice = Literal["yamux", "websocket", "auto"]

DIAL_SECONDS: Final = 10.0
YAMUX_SHARE: Final = 0.5
"""Of what is left of the deadline once TLS is up: so long an answer is waited for where a WebSocket may follow. What
takes its time before that, a resolver above all, would do so for a WebSocket too."""
DEFAULT_PORT: Final = 443


@dataclass(frozen=True, slots=True)
class DialPlan:
    """Where a link goes and what it says there.

    Attributes:
        url: the relay, `https://host[:port]`.
        ssl_context: verifies the relay, and holds the client certificate of a listener.
        token: the listen or call token, or None where the certificate is enough.
        terms: what to offer.
        instance: a listener's process.
        sequence: a listener's link number.
        carrier: `auto` tries yamux and, where something between the ends breaks it, a WebSocket.
        proxy: an HTTP proxy to go through.
        proxy_ssl_context: verifies an `https://` proxy; needed only then.
        deadline_seconds: for everything together.
        refuse_peer: says why a relay whose certificate verifies is not to be spoken to all the same.
        addresses: where names are looked up; whoever dials more than once hands in the same each time.
    """

    url: str
    ssl_context: ssl.SSLContext
    token: str | None = field(default=None, repr=False)
    terms: LinkTerms = OWN_TERMS
    instance: UUID | None = None
    sequence: int | None = None
    carrier: CarrierChoice = "yamux"
    proxy: ProxyAddress | None = None
    proxy_ssl_context: ssl.SSLContext | None = None
    deadline_seconds: float = DIAL_SECONDS
    refuse_peer: PeerRefusal | None = None
    addresses: Addresses = field(default_factory=Addresses, repr=False, compare=False)

    @property
    def host_and_port(self) -> tuple[str, int]:
        """The relay's host name and port.

        Raises:
            HandshakeFailed: the URL is not `https://host[:port]`.
        """
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port, parts = None, None, urlsplit("")
        if parts.scheme != "https" or not host or parts.path not in ("", "/") or parts.query or parts.username:
            raise HandshakeFailed("a relay is named as https://host or https://host:port")
        return host, port or DEFAULT_PORT


async def dial_link(
    plan: DialPlan, *, role: Role, owner: LinkOwner, limits: Limits | None = None, budget: CreditBudget | None = None
) -> Link:
    """Open a link to a relay.

    Args:
        plan: where to, and what to say there.
        role: SERVER for a listener, CLIENT for a sender.
        owner: is offered the streams that the relay opens, and told of the link's end.
        limits: of the session; the initial window is replaced by the agreed one.
        budget: the process-wide credit.

    Raises:
        ConnectionLost: the relay was not reached, or went away, or did not answer in time.
        HandshakeFailed: TLS, the proxy or the relay refused (`ProxyRefused`, `LinkRefused`).
    """
    loop = asyncio.get_running_loop()

    def make_link(agreed: LinkTerms) -> Link:
        window_bytes = agreed.initial_window_bytes
        return Link(
            role,
            owner,
            limits=replace(limits or Limits(), initial_window_bytes=window_bytes),
            loop=loop,
            send_window_bytes=window_bytes,
            compact=agreed.compact,
            budget=budget,
        )

    return await dial(plan, make_link)


async def dial(plan: DialPlan, make_link: Callable[[LinkTerms], Link]) -> Link:
    """Carry a plan out; `make_link` builds the link once the terms are known.

    Raises:
        ConnectionLost: the relay was not reached, or went away, or did not answer in time.
        HandshakeFailed: TLS, the proxy or the relay refused.
    """
    host, _ = plan.host_and_port
    deadline = asyncio.get_running_loop().time() + plan.deadline_seconds
    try:
        async with asyncio.timeout_at(deadline):
            return await _dial_carriers(plan, make_link, deadline)
    except TimeoutError:
        way = "" if plan.proxy is None else f" through the proxy {plan.proxy}"
        raise ConnectionLost(
            f"no answer from the relay {host}{way} within {plan.deadline_seconds:g} s, or its name was not resolved"
        ) from None


async def _dial_carriers(plan: DialPlan, make_link: Callable[[LinkTerms], Link], deadline: float) -> Link:
    if plan.carrier != "auto":
        return await _dial_once(plan, Carrier(plan.carrier.encode("ascii")), make_link, deadline)
    try:
        return await _dial_once(plan, Carrier.YAMUX, make_link, deadline, share=YAMUX_SHARE)
    except UpgradeBroken:
        return await _dial_once(plan, Carrier.WEBSOCKET, make_link, deadline)
    except LinkRefused as refusal:
        if refusal.from_relay:
            raise
        return await _dial_once(plan, Carrier.WEBSOCKET, make_link, deadline)


async def _dial_once(
    plan: DialPlan, carrier: Carrier, make_link: Callable[[LinkTerms], Link], deadline: float, *, share: float = 1.0
) -> Link:
    loop = asyncio.get_running_loop()
    host, port = plan.host_and_port
    request = LinkRequest(
        authority=format_authority(host, port),
        carrier=carrier,
        terms=plan.terms,
        token=plan.token,
        instance=plan.instance,
        sequence=plan.sequence,
        websocket_key=new_websocket_key() if carrier is Carrier.WEBSOCKET else None,
    )
    connecting = _Connecting(plan, request, make_link, loop)
    try:
        upgrade = await connecting.connect()
        link = await _answer(upgrade, (deadline - loop.time()) * share if share < 1.0 else None)
        connecting.succeeded()
        return link
    except ssl.SSLCertVerificationError as error:
        raise HandshakeFailed(f"the certificate of {host} is not to be trusted: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise HandshakeFailed(f"TLS with {host} failed: {error.reason or error}") from None
    except (ConnectionResetError, ConnectionAbortedError, BrokenPipeError) as error:
        # A port that is closed refuses; a proxy that cuts may well do so since the relay has.
        raise CutBeforeTls(f"{request.authority} cut the connection before TLS was up: {_reason(error)}") from None
    except OSError as error:
        raise ConnectionLost(f"cannot reach {plan.proxy or request.authority}: {_reason(error)}") from None
    except UnicodeError:
        raise HandshakeFailed(f"{plan.proxy or request.authority} cannot be the name of a host") from None
    finally:
        connecting.abandon()


async def _answer(upgrade: UpgradeProtocol, patience_seconds: float | None) -> Link:
    try:
        async with asyncio.timeout(patience_seconds):
            return await upgrade.link()
    except TimeoutError:
        raise UpgradeBroken("the upgrade was not answered") from None


def _reason(error: OSError) -> str:
    return connect_reason(error).lower()


class _Connecting:
    """The connections of one attempt, one for each address that was tried; the first that has TLS up asks for the link.

    All of it may be abandoned at any moment: what `connect` has made is found here, whether it was handed over or not.
    """

    def __init__(
        self,
        plan: DialPlan,
        request: LinkRequest,
        make_link: Callable[[LinkTerms], Link],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._plan = plan
        self._request = request
        self._make_link = make_link
        self._loop = loop
        self._upgrades: list[UpgradeProtocol] = []
        self._first: UpgradeProtocol | None = None
        self._address: Address | None = None
        self._linked = False
        self._host, self._port = plan.host_and_port
        self._next_host, self._next_port = self._host, self._port
        if plan.proxy is not None:
            self._next_host, self._next_port = plan.proxy.host, plan.proxy.port

    async def connect(self) -> UpgradeProtocol:
        """Bring TLS up with the relay; the request for the link is on its way.

        Raises:
            ChannelError, OSError, UnicodeError: no address is one at which that succeeds.
        """
        proxy = self._plan.proxy
        if proxy is not None and proxy.secure and self._plan.proxy_ssl_context is None:
            raise HandshakeFailed(f"the proxy {proxy} needs a TLS context to verify it")
        addresses = await self._plan.addresses.find(self._next_host, self._next_port)
        self._address, upgrade = await connect_first(addresses, self._secure, avoid=self._avoid)
        return upgrade

    def succeeded(self) -> None:
        """There is a link."""
        self._linked = True
        if self._address is not None:
            self._plan.addresses.welcome(self._next_host, self._next_port, self._address)

    def abandon(self) -> None:
        """Drop all but the link that was handed over; an address at which there is none is not tried first again."""
        for upgrade in self._upgrades:
            upgrade.abandon()
        if not self._linked and self._address is not None:
            self._avoid(self._address)

    def _avoid(self, address: Address) -> None:
        self._plan.addresses.avoid(self._next_host, self._next_port, address)

    async def _secure(self, connection: socket.socket) -> UpgradeProtocol:
        upgrade: UpgradeProtocol = UpgradeProtocol(
            self._request, self._make_link, self._loop, self._plan.refuse_peer, lambda: self._is_first(upgrade)
        )
        self._upgrades.append(upgrade)
        if self._plan.proxy is None:
            await self._secure_directly(upgrade, connection)
        else:
            await self._secure_through_proxy(self._plan.proxy, upgrade, connection)
        if self._first is not upgrade:
            raise ConnectionLost("another address was quicker")
        return upgrade

    def _is_first(self, upgrade: UpgradeProtocol) -> bool:
        if self._first is None:
            self._first = upgrade
        return self._first is upgrade

    async def _secure_directly(self, upgrade: UpgradeProtocol, connection: socket.socket) -> None:
        await self._loop.create_connection(
            lambda: upgrade,
            sock=connection,
            ssl=self._plan.ssl_context,
            server_hostname=self._host,
            ssl_handshake_timeout=self._plan.deadline_seconds,
        )

    async def _secure_through_proxy(
        self, proxy: ProxyAddress, upgrade: UpgradeProtocol, connection: socket.socket
    ) -> None:
        connect = ConnectProtocol(proxy, self._host, self._port, self._loop)
        transport, _ = await self._loop.create_connection(
            lambda: connect,
            sock=connection,
            ssl=self._plan.proxy_ssl_context if proxy.secure else None,
            server_hostname=proxy.host if proxy.secure else None,
            ssl_handshake_timeout=self._plan.deadline_seconds if proxy.secure else None,
        )
        try:
            await connect.done
            secured = await self._loop.start_tls(
                transport,
                upgrade,
                self._plan.ssl_context,
                server_hostname=self._host,
                ssl_handshake_timeout=self._plan.deadline_seconds,
            )
        except BaseException:
            transport.abort()
            raise
        if secured is None:
            raise ConnectionLost(f"the proxy {proxy} closed the connection")
        upgrade.connection_made(secured)
