"""AWS as evidence: an instance identity document, and a GetCallerIdentity request that the same instance signed.

The document says which instance, but is the same for its whole life, and anybody who once read it can show it. The
signed request is fresh and bound to our nonce, and names the session of the instance's role. Both must name one
instance of one allowed account.
"""

from collections.abc import Mapping, Sequence

from cryptography import x509

from certs.caller_identity import check_caller_identity
from certs.errors import TokenError
from control_plane.attestation.aws_caller import CallerIdentities
from control_plane.attestation.aws_document import read_instance_document
from control_plane.attestation.evidence import Evidence
from control_plane.attestation.machine import AttestedMachine, Platform
from control_plane.attestation.refusals import bad_evidence, disagrees, not_allowed, refused_token


class AwsProvider:
    """Verifies both parts, and that they agree."""

    def __init__(
        self,
        accounts: frozenset[str],
        certificates: Mapping[str, Sequence[x509.Certificate]],
        callers: CallerIdentities,
    ) -> None:
        self._accounts = accounts
        self._certificates = certificates
        self._callers = callers

    async def verify(self, evidence: Evidence, nonce: str, now: float) -> AttestedMachine:
        """Return the instance; AWS is asked only for instances of the allowed accounts."""
        if not evidence.document or evidence.caller is None or evidence.token:
            raise bad_evidence("an EC2 instance proves itself with its identity document and a signed request to STS")
        document = read_instance_document(evidence.document, self._certificates)
        if document.account not in self._accounts:
            raise not_allowed("the instance's account is not allowed")
        try:
            check_caller_identity(evidence.caller, now)
        except TokenError as error:
            raise refused_token("the evidence", error) from None
        role = await self._callers.ask(evidence.caller, region=document.region, nonce=nonce)
        if (role.account, role.session) != (document.account, document.instance_id):
            raise disagrees("the instance identity document is of another instance than the one that signed")
        return AttestedMachine(
            platform=Platform.AWS,
            machine_id=f"aws:{document.account}:{document.region}:{document.instance_id}",
            account=document.account,
            name=document.instance_id,
            region=document.region,
            identities=frozenset({role.role_arn}),
        )
