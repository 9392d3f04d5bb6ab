"""What is wrong with files of certificates that the settings only point at, told before a start would fail for it."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from certs.errors import CertificateError
from certs.tls import client_context
from control_plane.attestation.providers import evidence_providers
from control_plane.identity.own_identity import load_serving
from control_plane.settings import ControlPlaneSettings
from trunkline.runtime.clock import SystemClock


def problems_with_files(settings: ControlPlaneSettings) -> list[str]:
    """Return a line for each table whose certificates, or key, cannot be used; nothing may be running yet."""
    looks: dict[str, Callable[[], object]] = {
        "tls": lambda: load_serving(settings.tls),
        "relay_reach": lambda: client_context(ca_file=settings.relay_reach.ca_file),
        "bootstrap": lambda: asyncio.run(_look_at_evidence(settings)),
    }
    return [f"[{table}]: {problem}" for table, look in looks.items() if (problem := _problem(look)) is not None]


def _problem(look: Callable[[], object]) -> str | None:
    try:
        look()
    except CertificateError as error:
        return str(error)
    return None


async def _look_at_evidence(settings: ControlPlaneSettings) -> None:
    async with AsyncExitStack() as stack:
        await evidence_providers(settings.bootstrap, stack, SystemClock())
