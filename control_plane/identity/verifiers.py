"""The verifiers of evidence that the settings ask for."""

from collections.abc import Mapping
from contextlib import AsyncExitStack

import aiohttp

from certs.azure import PUBLIC_AUTHORITY, AzurePolicy, AzureVerifier
from certs.jwks import KeySets
from certs.tls import client_context
from control_plane.identity.azure_evidence import AzureEvidenceVerifier
from control_plane.identity.evidence import EvidenceVerifier
from control_plane.identity.join_token_evidence import JoinTokenVerifier
from control_plane.settings import AzureSettings, BootstrapSettings
from trunkline.runtime.clock import Clock


async def evidence_verifiers(
    settings: BootstrapSettings, stack: AsyncExitStack, clock: Clock
) -> Mapping[str, EvidenceVerifier]:
    """Return the verifiers by the evidence's type; what they hold open is closed by the stack.

    Raises:
        CertificateError: a CA file cannot be used.
    """
    verifiers: dict[str, EvidenceVerifier] = {"join_token": JoinTokenVerifier()}
    if settings.azure is not None:
        verifiers["azure"] = await _azure(settings.azure, stack, clock)
    return verifiers


async def _azure(settings: AzureSettings, stack: AsyncExitStack, clock: Clock) -> EvidenceVerifier:
    connector = aiohttp.TCPConnector(ssl=client_context(ca_file=settings.ca_file), limit=4)
    # Keys of a public issuer may lie beyond a proxy, which the environment names.
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, trust_env=True))
    policy = AzurePolicy(
        audience=settings.audience,
        tenants=frozenset(settings.tenants),
        identities=frozenset(settings.identities),
        authority_url=settings.authority_url or PUBLIC_AUTHORITY,
    )
    key_sets = KeySets(session, clock, allow_http=settings.allow_insecure_authority)
    return AzureEvidenceVerifier(AzureVerifier(policy, key_sets), settings.workspace)
