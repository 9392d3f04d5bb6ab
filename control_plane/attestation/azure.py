"""Azure as evidence: a managed identity's token and an attested document that speak of one and the same VM.

The token says who (tenant, identity, resource), and is cached by Azure, so it is good for a day and for anybody who
gets hold of it. The document says which VM and for which challenge, but not whose. Neither is enough. The machine is
known by its `vmId`: scale sets share identities, resources can be deleted and made again under their old name, and
user-assigned identities are no machines at all.
"""

from typing import Protocol

from certs.arm_ids import ComputeResource, read_compute_resource
from certs.azure import AzureVerifier, ManagedIdentity
from certs.errors import TokenError
from certs.jwks import KeySetError
from control_plane.attestation.azure_document import AttestedDocument, DocumentAnchors, read_attested_document
from control_plane.attestation.azure_machines import AzureMachine
from control_plane.attestation.evidence import Evidence
from control_plane.attestation.machine import AttestedMachine, Platform
from control_plane.attestation.refusals import bad_evidence, disagrees, not_allowed, refused_token, unverifiable


class MachineDirectory(Protocol):
    """Tells which machine a resource and a `vmId` are together."""

    async def find(self, resource: ComputeResource, vm_id: str) -> AzureMachine:
        """Return the machine; raises AttestationRefused if they are not one."""
        ...


class FirstUse:
    """Believes at first sight that a VM's resource and `vmId` belong together; the node's record holds both to it."""

    async def find(self, resource: ComputeResource, vm_id: str) -> AzureMachine:
        """Return the machine as its token has it, without what only Azure's directory knows.

        Raises:
            AttestationRefused: the token is of a scale set, whose instances cannot be told apart so.
        """
        if not resource.is_one_machine:
            raise not_allowed(
                "the token is of a scale set: set machine_check = 'resource_manager' in [bootstrap.azure] to admit one"
            )
        return AzureMachine(resource, scale_set=resource.scale_set)


class AzureProvider:
    """Verifies both parts, and that they agree."""

    def __init__(self, verifier: AzureVerifier, anchors: DocumentAnchors, directory: MachineDirectory) -> None:
        self._verifier = verifier
        self._anchors = anchors
        self._directory = directory

    async def verify(self, evidence: Evidence, nonce: str, now: float) -> AttestedMachine:
        """Return the machine; issuer, tenant and identity are looked at before any key is fetched."""
        if not evidence.token or not evidence.document or evidence.caller is not None:
            raise bad_evidence("an Azure machine proves itself with a token and an attested document")
        identity = await self._identity(evidence.token, now)
        document = read_attested_document(evidence.document, nonce, self._anchors, now)
        resource = resource_of(identity)
        if resource is None:
            raise not_allowed("the managed identity's token names no virtual machine: use one that a VM asked for")
        if resource.subscription != document.subscription:
            raise disagrees("the attested document is of another subscription than the managed identity's token")
        return _machine(identity, document, await self._directory.find(resource, document.vm_id))

    async def _identity(self, token: str, now: float) -> ManagedIdentity:
        try:
            return await self._verifier.verify(token, now)
        except TokenError as error:
            raise refused_token("the managed identity's token", error) from None
        except KeySetError as error:
            raise unverifiable(f"the managed identity cannot be verified now: {error}") from None


def resource_of(identity: ManagedIdentity) -> ComputeResource | None:
    """Return the machine or scale set that asked for the token, or None if the token does not say.

    The resource that asked (`xms_az_rid`) comes first, and where it is stated, it decides. The identity's own id
    (`xms_mirid`) is a machine's only for a system-assigned identity: a user-assigned one is shared by many.
    """
    for stated in (identity.resource_id, identity.identity_resource_id):
        if stated is not None:
            return read_compute_resource(stated)
    return None


def _machine(identity: ManagedIdentity, document: AttestedDocument, found: AzureMachine) -> AttestedMachine:
    identities = {identity.object_id, identity.application_id, identity.identity_resource_id}
    return AttestedMachine(
        platform=Platform.AZURE,
        machine_id=f"azure:{document.vm_id}",
        tenant=identity.tenant_id,
        account=document.subscription,
        resource=found.resource.text,
        resource_is_proved=found.is_proved,
        name=found.resource.machine or f"{found.resource.scale_set}-{found.resource.instance}",
        resource_group=found.resource.resource_group,
        scale_set=found.scale_set,
        region=found.region,
        identities=frozenset(one for one in identities if one),
        tags=found.tags,
    )
