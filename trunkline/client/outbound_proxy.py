"""Which HTTP proxy of the environment the SDK's own connections go through, if any."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from trunkline.channel.proxy_connect import ProxyAddress, proxy_from_environment


def outbound_proxy(url: str, environ: Mapping[str, str] | None = None) -> ProxyAddress | None:
    """The proxy for an ``https://`` address by ``HTTPS_PROXY`` and ``NO_PROXY``; loopback is always dialled directly.

    Raises:
        ValueError: ``HTTPS_PROXY`` is no proxy address.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host):
        return None
    return proxy_from_environment(host, parts.port or 443, os.environ if environ is None else environ)


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own, whatever a resolver says."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
