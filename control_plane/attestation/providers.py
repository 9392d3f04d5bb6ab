"""The providers that the settings ask for."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
from cryptography import x509

from certs.azure import PUBLIC_AUTHORITY, AzurePolicy, AzureVerifier
from certs.chains import certificates_from_pem
from certs.errors import CertificateError
from certs.gcp import PUBLIC_ISSUER, PUBLIC_KEYS_URL, GcpPolicy, GcpVerifier
from certs.jwks import KeySets
from certs.tls import client_context
from control_plane.attestation.aws import AwsProvider
from control_plane.attestation.aws_caller import CallerIdentities
from control_plane.attestation.azure import AzureProvider, FirstUse, MachineDirectory
from control_plane.attestation.azure_document import DocumentAnchors
from control_plane.attestation.azure_machines import OwnToken, ResourceManager
from control_plane.attestation.evidence import JOIN_TOKEN, EvidenceProvider
from control_plane.attestation.gcp import GcpProvider
from control_plane.attestation.join_token import JoinTokenProvider
from control_plane.attestation.machine import Platform
from control_plane.attestation.outbound import Outbound
from control_plane.attestation_settings import AwsSettings, AzureSettings, BootstrapSettings, GcpSettings
from trunkline.runtime.clock import Clock

MOST_CONNECTIONS = 8
MOST_ROOTS = 16
MOST_INTERMEDIATES = 64


async def evidence_providers(
    settings: BootstrapSettings, stack: AsyncExitStack, clock: Clock
) -> Mapping[str, EvidenceProvider]:
    """Return the providers by the evidence's method; what they hold open is closed by the stack.

    Raises:
        CertificateError: a file of certificates cannot be used.
    """
    providers: dict[str, EvidenceProvider] = {JOIN_TOKEN: JoinTokenProvider()}
    if settings.azure is not None:
        providers[Platform.AZURE] = await _azure(settings.azure, stack, clock)
    if settings.aws is not None:
        providers[Platform.AWS] = await _aws(settings.aws, stack)
    if settings.gcp is not None:
        providers[Platform.GCP] = await _gcp(settings.gcp, stack, clock)
    return providers


async def _azure(settings: AzureSettings, stack: AsyncExitStack, clock: Clock) -> EvidenceProvider:
    session = await _session(settings.ca_file, stack)
    policy = AzurePolicy(
        audience=settings.audience,
        tenants=frozenset(settings.tenants),
        identities=frozenset(settings.identities),
        authority_url=settings.authority_url or PUBLIC_AUTHORITY,
    )
    key_sets = KeySets(session, clock, allow_http=settings.allow_insecure_authority)
    anchors = DocumentAnchors(
        roots=_certificates(settings.document_roots_file, MOST_ROOTS),
        intermediates=_certificates(settings.document_intermediates_file, MOST_INTERMEDIATES),
        host=settings.document_host,
    )
    return AzureProvider(AzureVerifier(policy, key_sets), anchors, await _directory(settings, session, stack, clock))


async def _directory(
    settings: AzureSettings, session: aiohttp.ClientSession, stack: AsyncExitStack, clock: Clock
) -> MachineDirectory:
    if settings.machine_check == "first_use":
        return FirstUse()
    # The metadata service is on this machine, and never beyond a proxy.
    local = await stack.enter_async_context(aiohttp.ClientSession(trust_env=False))
    own = Outbound(local, "the control plane's own metadata service")
    url = settings.resource_manager_url
    token = OwnToken(own, settings.metadata_url, f"{url}/", clock)
    return ResourceManager(Outbound(session, "Azure Resource Manager"), url, token)


async def _aws(settings: AwsSettings, stack: AsyncExitStack) -> EvidenceProvider:
    session = await _session(settings.ca_file, stack)
    certificates = {region: _certificates(file, MOST_ROOTS) for region, file in settings.certificate_files.items()}
    callers = CallerIdentities(Outbound(session, "AWS STS"), endpoint_url=settings.sts_url)
    return AwsProvider(frozenset(settings.accounts), certificates, callers)


async def _gcp(settings: GcpSettings, stack: AsyncExitStack, clock: Clock) -> EvidenceProvider:
    session = await _session(settings.ca_file, stack)
    policy = GcpPolicy(
        audience=settings.audience,
        projects=frozenset(settings.projects),
        issuer=settings.issuer_url or PUBLIC_ISSUER,
        keys_url=settings.keys_url or PUBLIC_KEYS_URL,
    )
    return GcpProvider(GcpVerifier(policy, KeySets(session, clock)))


async def _session(ca_file: Path | None, stack: AsyncExitStack) -> aiohttp.ClientSession:
    """A session of our own TLS policy; clouds may lie beyond a proxy, which the environment names."""
    connector = aiohttp.TCPConnector(ssl=client_context(ca_file=ca_file), limit=MOST_CONNECTIONS)
    return await stack.enter_async_context(aiohttp.ClientSession(connector=connector, trust_env=True))


def _certificates(path: Path | None, maximum: int) -> tuple[x509.Certificate, ...]:
    if path is None:
        return ()
    try:
        return certificates_from_pem(path.read_bytes(), maximum=maximum)
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {error.strerror}") from None
    except CertificateError as error:
        raise CertificateError(f"{path}: {error}") from None
