"""The emulated clouds of a sandbox, as a process of its own: FOR DEVELOPMENT ONLY.

Two loopback ports. The metadata port answers as the clouds' metadata services do, below a path for each machine, since
all machines of a sandbox share one address: `/vm-1/metadata/identity/oauth2/token?resource=…`, with `Metadata: true`.
The authority port serves what a control plane asks, over TLS. Whoever can reach the metadata port can be any machine of
the sandbox; nothing but the sandbox's control plane may ever be made to trust these clouds.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aiohttp import web

from certs.authority import Authority
from certs.chains import certificates_to_pem
from certs.identities import Identity, build_csr
from certs.keyfiles import generate_key
from certs.tls import ServerTls, TlsContext
from trunkline.runtime.clock import SystemClock
from trunkline.runtime.files import write_atomic
from trunkline.sandbox.emulated_authority import EmulatedAuthority
from trunkline.sandbox.emulated_documents import EmulatedDocuments
from trunkline.sandbox.emulated_identity import EmulatedIssuer
from trunkline.sandbox.emulated_metadata import EmulatedMetadata
from trunkline.sandbox.emulated_sts import EmulatedSts
from trunkline.sandbox.settings_files import HOST, LOOPBACK

CERTIFICATE_SECONDS = 90 * 86_400
_TRUST_DOMAIN = "identity-emulator.internal"


def main(arguments: list[str]) -> int:
    """Run the service until SIGTERM; the arguments are its directory and the names of the machines."""
    directory, *machines = arguments
    asyncio.run(_serve(Path(directory), machines))
    return os.EX_OK


async def _serve(directory: Path, machines: list[str]) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with emulated_clouds(directory, machines) as (authority_url, metadata_url):
        _announce(directory, authority_url, metadata_url)
        await stopped.wait()


@asynccontextmanager
async def emulated_clouds(directory: Path, machines: list[str]) -> AsyncIterator[tuple[str, str]]:
    """Run the clouds; gives the authority's and the metadata service's addresses, the same as the last time."""
    tls = _make_tls(directory, time.time())
    known_ports = _read_ports(directory)
    async with AsyncExitStack() as stack:
        authority_socket = _listening(known_ports.get("authority", 0))
        authority_url = f"https://{HOST}:{authority_socket.getsockname()[1]}"
        issuer = EmulatedIssuer(directory / "issuer-key.pem", authority_url)
        sts = EmulatedSts(machines, (directory / "issuer-key.pem").read_bytes())
        authority = EmulatedAuthority(issuer, sts, machines, authority_url)
        await stack.enter_async_context(_site(authority.application(), authority_socket, tls))
        metadata_socket = _listening(known_ports.get("metadata", 0))
        metadata_url = f"http://{LOOPBACK}:{metadata_socket.getsockname()[1]}"
        metadata = EmulatedMetadata(issuer, EmulatedDocuments(directory), sts, machines, SystemClock())
        await stack.enter_async_context(_site(metadata.application(), metadata_socket, None))
        yield authority_url, metadata_url


@asynccontextmanager
async def _site(application: web.Application, listening: socket.socket, tls: TlsContext | None) -> AsyncIterator[None]:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.SockSite(runner, listening, ssl_context=tls).start()
        yield
    finally:
        await runner.cleanup()


def _listening(port: int) -> socket.socket:
    """A loopback socket on the port that it had before, or on one that the system picks."""
    return socket.create_server((LOOPBACK, port))


def _make_tls(directory: Path, now: float) -> TlsContext:
    """A certificate from an authority of the emulator's own, which is made at the first start."""
    place = directory / "authority"
    if place.exists():
        authority = Authority.load(place, _TRUST_DOMAIN)
    else:
        authority = Authority.create(place, _TRUST_DOMAIN, now=now)
        write_atomic(directory / "ca.pem", certificates_to_pem(authority.roots).encode(), mode=0o644)
    key = generate_key()
    chain = authority.issue_control_plane(build_csr(key), [HOST], CERTIFICATE_SECONDS, now=now)
    return ServerTls(Identity(key, chain)).context


def _read_ports(directory: Path) -> dict[str, int]:
    try:
        document = json.loads((directory / "ports.json").read_bytes())
        return {str(name): int(port) for name, port in document.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _announce(directory: Path, authority_url: str, metadata_url: str) -> None:
    ports = {
        name: int(url.rpartition(":")[2]) for name, url in (("authority", authority_url), ("metadata", metadata_url))
    }
    write_atomic(directory / "ports.json", json.dumps(ports).encode())
    document = {"pid": os.getpid(), "url": authority_url, "metadata_url": metadata_url}
    write_atomic(directory / "endpoints.json", json.dumps(document).encode())
