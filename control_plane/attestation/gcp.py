"""Google Compute Engine as evidence: an instance identity token whose audience holds our nonce."""

from certs.errors import TokenError
from certs.gcp import GcpVerifier
from certs.jwks import KeySetError
from control_plane.attestation.evidence import Evidence
from control_plane.attestation.machine import AttestedMachine, Platform
from control_plane.attestation.refusals import bad_evidence, refused_token, unverifiable


class GcpProvider:
    """Verifies instance identity tokens."""

    def __init__(self, verifier: GcpVerifier) -> None:
        self._verifier = verifier

    async def verify(self, evidence: Evidence, nonce: str, now: float) -> AttestedMachine:
        """Return the instance; issuer, audience and project are looked at before any key is fetched."""
        if not evidence.token or evidence.document or evidence.caller is not None:
            raise bad_evidence("a Compute Engine instance proves itself with an identity token")
        try:
            instance = await self._verifier.verify(evidence.token, nonce, now)
        except TokenError as error:
            raise refused_token("the instance's identity token", error) from None
        except KeySetError as error:
            raise unverifiable(f"the instance cannot be verified now: {error}") from None
        return AttestedMachine(
            platform=Platform.GCP,
            machine_id=f"gcp:{instance.project}:{instance.instance_id}",
            account=instance.project,
            name=instance.name,
            region=instance.region,
            identities=frozenset({instance.email}),
        )
