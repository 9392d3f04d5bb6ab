"""The verifiers of evidence that the settings ask for."""

from collections.abc import Mapping
from contextlib import AsyncExitStack

from control_plane.identity.evidence import EvidenceVerifier
from control_plane.identity.join_token_evidence import JoinTokenVerifier
from control_plane.settings import BootstrapSettings


async def evidence_verifiers(settings: BootstrapSettings, stack: AsyncExitStack) -> Mapping[str, EvidenceVerifier]:
    """Return the verifiers by the evidence's type; what they hold open is closed by the stack."""
    verifiers: dict[str, EvidenceVerifier] = {"join_token": JoinTokenVerifier()}
    return verifiers
