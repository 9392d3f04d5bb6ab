"""Azure managed identities as evidence: whose tokens are taken, and which machine a token speaks of."""

from sqlalchemy.ext.asyncio import AsyncSession

from certs.azure import AzureVerifier, ManagedIdentity
from certs.errors import TokenError, TokenErrorCode
from certs.jwks import KeySetError
from control_plane.errors import ApiError, ErrorCode
from control_plane.identity.evidence import Admission, CheckedEvidence
from control_plane.storage import workspaces

KEYS_RETRY_SECONDS = 60
_MACHINES = ("/virtualmachines/", "/virtualmachinescalesets/")
_NOT_ALLOWED = frozenset({TokenErrorCode.WRONG_ISSUER, TokenErrorCode.BAD_CLAIMS})


class AzureEvidenceVerifier:
    """Admits managed identities of the allowed tenants to one workspace."""

    def __init__(self, verifier: AzureVerifier, workspace: str) -> None:
        self._verifier = verifier
        self._workspace = workspace

    async def check(self, token: str, now: float) -> CheckedEvidence:
        """Verify the token; issuer, tenant and identity are looked at before any key is fetched."""
        try:
            identity = await self._verifier.verify(token, now)
        except TokenError as error:
            code = ErrorCode.PERMISSION_DENIED if error.code in _NOT_ALLOWED else ErrorCode.UNAUTHENTICATED
            raise ApiError(code, f"the managed identity's token is refused: {error}") from None
        except KeySetError as error:
            raise ApiError(
                ErrorCode.TEMPORARILY_UNAVAILABLE,
                f"the managed identity cannot be verified now: {error}",
                retry_after_seconds=KEYS_RETRY_SECONDS,
            ) from None
        machine = machine_of(identity)
        attested_as = f"azure:{identity.tenant_id}:{machine}" if machine is not None else None
        return CheckedEvidence(token=token, attested_as=attested_as, claims=_audited(identity))

    async def settle(self, session: AsyncSession, checked: CheckedEvidence, now: float) -> Admission:
        """Admit the machine to the workspace of the settings."""
        workspace = await workspaces.find(session, self._workspace)
        if workspace is None:
            raise ApiError(
                ErrorCode.PERMISSION_DENIED,
                f"the workspace {self._workspace!r}, which [bootstrap.azure] names, does not exist: create it",
            )
        return Admission(workspace)


def machine_of(identity: ManagedIdentity) -> str | None:
    """Return the ARM id of the machine that the token speaks of, or None if it speaks of an identity only.

    The resource that asked for the token comes first. The identity's own id is the machine's only for a
    system-assigned identity: a user-assigned one is shared by many machines.
    """
    for resource in (identity.resource_id, identity.identity_resource_id):
        if resource is not None and any(kind in resource for kind in _MACHINES):
            return resource
    return None


def _audited(identity: ManagedIdentity) -> dict[str, str]:
    return {
        "tenant_id": identity.tenant_id,
        "object_id": identity.object_id,
        "application_id": identity.application_id,
        "resource_id": machine_of(identity) or "",
    }
