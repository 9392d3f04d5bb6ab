"""The relay's own identity: kept in one file, replaced at each renewal, handed to whoever signs or serves with it."""

from collections.abc import Callable
from pathlib import Path

from certs.assertions import AssertionSigner
from certs.errors import CertificateError
from certs.identities import Identity
from certs.keyfiles import read_secret
from certs.spiffe import IdentityRole, SpiffeId
from certs.tokens import IssuedToken, TokenClaims
from trunkline.runtime.threads import in_thread

IDENTITY_FILE = "identity.pem"


class OwnIdentity:
    """The SVID in force. It also signs the assertions that stand in for workspace tokens."""

    def __init__(self, identity: Identity, path: Path) -> None:
        spiffe_id = identity.spiffe_id
        if spiffe_id.role is not IdentityRole.RELAY or spiffe_id.relay_id is None:
            raise CertificateError(f"{path} holds no relay's identity")
        self.current = identity
        self.relay_id = spiffe_id.relay_id
        self._path = path
        self._signer = AssertionSigner(identity)
        self._subscribers: list[Callable[[Identity], None]] = []

    def subscribe(self, callback: Callable[[Identity], None]) -> None:
        """Call back after each replacement; must not raise."""
        self._subscribers.append(callback)

    async def replace(self, identity: Identity) -> None:
        """Store a renewed identity, then use it.

        Raises:
            CertificateError: it names another relay, or cannot be stored; the old one stays.
        """
        if identity.spiffe_id != self.current.spiffe_id:
            raise CertificateError("the renewed certificate is for another identity")
        signer = AssertionSigner(identity)
        await in_thread(identity.write, self._path)
        self._take(identity, signer)

    def _take(self, identity: Identity, signer: AssertionSigner) -> None:
        self.current, self._signer = identity, signer
        for callback in self._subscribers:
            callback(identity)

    def read_again(self) -> None:
        """Use what another process has stored.

        Raises:
            CertificateError: it is damaged, or names another relay; the old one stays.
        """
        identity = Identity.load(self._path)
        if identity.spiffe_id != self.current.spiffe_id:
            raise CertificateError(f"{self._path} holds another relay's identity")
        self._take(identity, AssertionSigner(identity))

    def issue(self, origin: TokenClaims, node: SpiffeId, port: int, *, now: float) -> IssuedToken:
        """Sign an assertion about a workspace token; see `certs.assertions`."""
        return self._signer.issue(origin, node, port, now=now)


def load_identity(state_directory: Path) -> Identity | None:
    """Return the stored identity, or `None` before enrolment.

    Raises:
        CertificateError: the file is damaged or readable by others.
    """
    path = state_directory / IDENTITY_FILE
    if not path.exists():
        return None
    content = read_secret(path)
    try:
        return Identity.from_pem(content, str(path))
    except CertificateError as error:
        advice = "put a copy back, or remove it and enrol the relay anew with a join token (trunkline token relay)"
        raise CertificateError(f"{error}: the file is damaged; {advice}") from None
