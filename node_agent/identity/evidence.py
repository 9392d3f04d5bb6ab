"""Evidence: what the machine proves itself with when it has no identity. One interface, one class a platform."""

from pathlib import Path
from typing import Protocol

from certs.errors import CertificateError
from certs.keyfiles import read_secret
from node_agent.identity.metadata_service import MetadataService, MetadataUnavailable


class EvidenceUnavailable(Exception):  # noqa: N818 - a state of the world
    """There is no evidence now; `permanent` says that waiting alone will not bring it."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class EvidenceSource(Protocol):
    """Where evidence comes from."""

    single_use: bool
    """Whether the control plane takes the evidence only once, so that a refusal is final."""

    async def evidence(self) -> dict[str, str]:
        """Return the evidence as the control plane takes it.

        Raises:
            EvidenceUnavailable: there is none now.
        """
        ...


class AzureIdentity:
    """A token of the machine's managed identity, for the control plane's own audience."""

    single_use = False

    def __init__(self, metadata: MetadataService, audience: str, client_id: str | None) -> None:
        self._metadata = metadata
        self._audience = audience
        self._client_id = client_id

    async def evidence(self) -> dict[str, str]:
        """Ask the metadata service.

        Raises:
            EvidenceUnavailable: it does not answer, or the machine has no such identity.
        """
        try:
            token = await self._metadata.identity_token(self._audience, self._client_id)
        except MetadataUnavailable as error:
            raise EvidenceUnavailable(str(error), permanent=error.permanent) from None
        return {"type": "azure", "token": token.reveal()}


class JoinToken:
    """A join token that an operator has put into a file."""

    single_use = True

    def __init__(self, path: Path) -> None:
        self._path = path

    async def evidence(self) -> dict[str, str]:
        """Read the file.

        Raises:
            EvidenceUnavailable: it is missing, empty, or others can read it.
        """
        try:
            token = read_secret(self._path).decode("ascii", "replace").strip()
        except CertificateError as error:
            raise EvidenceUnavailable(f"the join token cannot be read: {error}", permanent=True) from None
        if not token:
            raise EvidenceUnavailable(f"the join token file {self._path} is empty", permanent=True)
        return {"type": "join_token", "token": token}
