"""An attested machine: what a platform has vouched for, in one form for all platforms."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Platform(StrEnum):
    """Who vouches for machines."""

    AZURE = "azure"
    AWS = "aws"
    GCP = "gcp"


@dataclass(frozen=True, slots=True)
class AttestedMachine:
    """One machine, beyond doubt; what the platform does not say of it is None or empty.

    Attributes:
        machine_id: the same for as long as the machine exists, and no other machine's: `azure:<vmId>`,
            `aws:<account>:<region>:<instance id>`, `gcp:<project>:<instance id>`.
        tenant: Azure's tenant.
        account: the subscription (Azure), account (AWS) or project (GCP).
        resource: what the platform calls the machine in full, where that can be told apart from its id.
        resource_is_proved: whether the platform's directory, and not the evidence alone, says that it is its resource.
        name: what the platform's people call it.
        identities: what it may call itself: object, application and identity resource ids; role ARNs; service accounts.
        tags: only where the platform's own directory was asked for them.
    """

    platform: Platform
    machine_id: str
    account: str
    tenant: str | None = None
    resource: str | None = None
    resource_is_proved: bool = False
    name: str | None = None
    resource_group: str | None = None
    scale_set: str | None = None
    region: str | None = None
    identities: frozenset[str] = frozenset()
    tags: Mapping[str, str] = field(default_factory=dict)

    def audited(self) -> dict[str, str]:
        """What the audit may hold of it."""
        stated = {
            "platform": self.platform.value,
            "machine_id": self.machine_id,
            "tenant": self.tenant,
            "account": self.account,
            "resource": self.resource,
            "region": self.region,
            "identities": " ".join(sorted(self.identities)),
        }
        return {name: value for name, value in stated.items() if value}
