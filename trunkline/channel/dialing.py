"""Dialling a relay: TCP, perhaps through a proxy, then TLS, then the link upgrade, then a Link on the connection.

One total deadline bounds everything. Every way to fail ends in a ChannelError: `ConnectionLost` where trying again may
help (nobody there, nobody answers, cut off), `HandshakeFailed` where the other side, or the proxy, or the certificate
check said no; of these `LinkRefused` carries the relay's own words. The link takes the transport over inside the very
call that parses the `101`, so that no byte behind it can be missed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Literal
from urllib.parse import urlsplit
from uuid import UUID

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

HAPPY_EYEBALLS_DELAY_SECONDS: Final = 0.25
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
    upgrade = UpgradeProtocol(request, make_link, loop, plan.refuse_peer)
    try:
        await _connect(plan, upgrade, loop)
        return await _answer(upgrade, (deadline - loop.time()) * share if share < 1.0 else None)
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
        upgrade.abandon()


async def _answer(upgrade: UpgradeProtocol, patience_seconds: float | None) -> Link:
    try:
        async with asyncio.timeout(patience_seconds):
            return await upgrade.link()
    except TimeoutError:
        raise UpgradeBroken("the upgrade was not answered") from None


def _reason(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).lower()


async def _connect(plan: DialPlan, upgrade: UpgradeProtocol, loop: asyncio.AbstractEventLoop) -> None:
    host, port = plan.host_and_port
    if plan.proxy is not None:
        await _connect_through_proxy(plan, plan.proxy, upgrade, loop)
        return
    await loop.create_connection(
        lambda: upgrade,
        host,
        port,
        ssl=plan.ssl_context,
        server_hostname=host,
        happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY_SECONDS,
        ssl_handshake_timeout=plan.deadline_seconds,
    )


async def _connect_through_proxy(
    plan: DialPlan, proxy: ProxyAddress, upgrade: UpgradeProtocol, loop: asyncio.AbstractEventLoop
) -> None:
    host, port = plan.host_and_port
    connect = ConnectProtocol(proxy, host, port, loop)
    if proxy.secure and plan.proxy_ssl_context is None:
        raise HandshakeFailed(f"the proxy {proxy} needs a TLS context to verify it")
    transport, _ = await loop.create_connection(
        lambda: connect,
        proxy.host,
        proxy.port,
        ssl=plan.proxy_ssl_context if proxy.secure else None,
        server_hostname=proxy.host if proxy.secure else None,
        happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY_SECONDS,
        ssl_handshake_timeout=plan.deadline_seconds if proxy.secure else None,
    )
    try:
        await connect.done
        secured = await loop.start_tls(
            transport,
            upgrade,
            plan.ssl_context,
            server_hostname=host,
            ssl_handshake_timeout=plan.deadline_seconds,
        )
    except BaseException:
        transport.abort()
        raise
    if secured is None:
        raise ConnectionLost(f"the proxy {proxy} closed the connection")
    upgrade.connection_made(secured)
