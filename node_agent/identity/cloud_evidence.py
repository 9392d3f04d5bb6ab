"""What the machine's cloud vouches for: tokens, signed documents and signed requests, all over the evidence nonce."""

from typing import Any

from certs.caller_identity import RoleCredentials, sign_caller_identity, sts_host
from certs.gcp import bound_audience
from node_agent.identity.evidence import EvidenceUnavailable
from node_agent.identity.metadata_service import MetadataService, MetadataUnavailable
from trunkline.runtime.clock import Clock

AZURE_TOKEN_VERSION = "2018-02-01"  # noqa: S105 - the version of an API
AZURE_DOCUMENT_VERSION = "2020-09-01"
AWS_SESSION_SECONDS = "60"

_AZURE = {"Metadata": "true"}
_GCP = {"Metadata-Flavor": "Google"}
_CREDENTIALS = "/latest/meta-data/iam/security-credentials/"


class AzureEvidence:
    """A token of the machine's managed identity, and the attested document of the machine."""

    single_use = False

    def __init__(self, metadata: MetadataService, audience: str, client_id: str | None) -> None:
        """Prepare; `client_id` names one of several identities."""
        self._metadata = metadata
        query = {"api-version": AZURE_TOKEN_VERSION, "resource": audience}
        self._token_query = query if client_id is None else query | {"client_id": client_id}

    async def collect(self, nonce: str) -> dict[str, Any]:
        """Ask for both.

        Raises:
            EvidenceUnavailable: the metadata service does not answer, or the machine has no such identity.
        """
        try:
            token = await self._metadata.ask("/metadata/identity/oauth2/token", _AZURE, self._token_query)
            document = await self._metadata.ask(
                "/metadata/attested/document", _AZURE, {"api-version": AZURE_DOCUMENT_VERSION, "nonce": nonce}
            )
            return {"type": "azure", "token": token.member("access_token"), "document": document.member("signature")}
        except MetadataUnavailable as error:
            raise _unavailable(error) from None


class AwsEvidence:
    """The instance identity document, and a request to STS that the instance's role has signed."""

    single_use = False

    def __init__(self, metadata: MetadataService, clock: Clock, *, sts_host: str | None = None) -> None:
        """Prepare; `sts_host` takes the place of the region's STS for an emulated service."""
        self._metadata = metadata
        self._clock = clock
        self._sts_host = sts_host

    async def collect(self, nonce: str) -> dict[str, Any]:
        """Ask, by the second version of the service, which needs a session first, and sign.

        Raises:
            EvidenceUnavailable: the metadata service does not answer, or the instance has no role.
        """
        try:
            session = await self._metadata.ask(
                "/latest/api/token",
                {"X-aws-ec2-metadata-token-ttl-seconds": AWS_SESSION_SECONDS},
                method="PUT",
            )
            headers = {"X-aws-ec2-metadata-token": session.text}
            document = await self._metadata.ask("/latest/dynamic/instance-identity/rsa2048", headers)
            region = (await self._metadata.ask("/latest/meta-data/placement/region", headers)).text
            credentials = await self._credentials(headers)
            host = self._sts_host or sts_host(region)
        except MetadataUnavailable as error:
            raise _unavailable(error) from None
        except ValueError as error:
            raise EvidenceUnavailable(f"the metadata service gives no region: {error}") from None
        signed = sign_caller_identity(credentials, region=region, host=host, nonce=nonce, now=self._clock.now())
        caller = {
            "date": signed.date,
            "access_key_id": signed.access_key_id,
            "session_token": signed.session_token,
            "signature": signed.signature,
        }
        return {"type": "aws", "document": document.text, "caller_identity": caller}

    async def _credentials(self, headers: dict[str, str]) -> RoleCredentials:
        role = (await self._metadata.ask(_CREDENTIALS, headers)).text
        if "/" in role or "\n" in role:
            raise MetadataUnavailable("the metadata service names no role", permanent=False)
        answer = await self._metadata.ask(_CREDENTIALS + role, headers)
        return RoleCredentials(answer.member("AccessKeyId"), answer.member("SecretAccessKey"), answer.member("Token"))


class GcpEvidence:
    """An identity token of the instance, whose audience holds the nonce."""

    single_use = False

    def __init__(self, metadata: MetadataService, audience: str) -> None:
        self._metadata = metadata
        self._audience = audience

    async def collect(self, nonce: str) -> dict[str, Any]:
        """Ask for it.

        Raises:
            EvidenceUnavailable: the metadata service does not answer, or the instance has no service account.
        """
        query = {"audience": bound_audience(self._audience, nonce), "format": "full"}
        path = "/computeMetadata/v1/instance/service-accounts/default/identity"
        try:
            answer = await self._metadata.ask(path, _GCP, query)
        except MetadataUnavailable as error:
            raise _unavailable(error) from None
        if answer.headers.get("Metadata-Flavor") != "Google":
            raise EvidenceUnavailable("what answers in the metadata service's place is not Google's")
        return {"type": "gcp", "token": answer.text}


def _unavailable(error: MetadataUnavailable) -> EvidenceUnavailable:
    return EvidenceUnavailable(str(error), permanent=error.permanent)
