"""Evidence: what the machine proves itself with when it has no identity. One interface, one class a platform."""

from pathlib import Path
from typing import Any, Protocol

from certs.errors import CertificateError
from certs.keyfiles import read_secret


class EvidenceUnavailable(Exception):  # noqa: N818 - a state of the world
    """There is no evidence now; `permanent` says that waiting alone will not bring it."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class EvidenceSource(Protocol):
    """Where evidence comes from."""

    single_use: bool
    """Whether the control plane takes the evidence only once, so that a refusal is final."""

    async def collect(self, nonce: str) -> dict[str, Any]:
        """Return evidence over this evidence nonce, as the control plane takes it.

        Raises:
            EvidenceUnavailable: there is none now.
        """
        ...


class JoinToken:
    """A join token that an operator has put into a file."""

    single_use = True

    def __init__(self, path: Path) -> None:
        self._path = path

    async def collect(self, nonce: str) -> dict[str, Any]:
        """Read the file; a join token is a secret of its own and bound to no nonce.

        Raises:
            EvidenceUnavailable: it is missing, empty, or others can read it.
        """
        return {"type": "join_token", "token": self.read()}

    def read(self) -> str:
        """Return the token.

        Raises:
            EvidenceUnavailable: as `collect`.
        """
        try:
            token = read_secret(self._path).decode("ascii", "replace").strip()
        except CertificateError as error:
            raise EvidenceUnavailable(f"the join token cannot be read: {error}", permanent=True) from None
        if not token:
            raise EvidenceUnavailable(f"the join token file {self._path} is empty", permanent=True)
        return token
