"""Evidence: what a machine proves itself with, and the interface behind which each kind is verified.

Verification has two steps. `check` looks at the evidence alone; it may ask the network, and holds no transaction.
`settle` decides inside the transaction in which the node is made, so that what is used up is used up exactly once.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.records import Workspace


@dataclass(frozen=True, slots=True)
class CheckedEvidence:
    """Evidence that is genuine.

    Attributes:
        credential: what the answer is kept under for repetitions: the join token; None means the nonce.
        attested_as: who the machine is, where the evidence says it beyond doubt.
        token: the evidence itself, for `settle`; never logged, audited or stored.
        claims: what may be audited of it.
    """

    token: str = field(repr=False)
    credential: str | None = field(default=None, repr=False)
    attested_as: str | None = None
    claims: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Admission:
    """The decision: which workspace, under which name at most, with which labels and cluster."""

    workspace: Workspace
    bound_name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    cluster_id: str | None = None


class EvidenceVerifier(Protocol):
    """Verifies one kind of evidence; both methods raise ApiError to refuse."""

    async def check(self, token: str, now: float) -> CheckedEvidence:
        """Tell whether the evidence is genuine."""
        ...

    async def settle(self, session: AsyncSession, checked: CheckedEvidence, now: float) -> Admission:
        """Decide, and use up what is to be used up."""
        ...


def evidence_hash(token: str) -> str:
    """Return the hexadecimal SHA-256 of evidence, which may be audited; the evidence itself may not."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
