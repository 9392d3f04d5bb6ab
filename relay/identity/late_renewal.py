"""Late renewal: a relay whose certificate has expired asks for the next one, signed with the key of the old one.

Its join token is used up, and its key is what it is still known by. The control plane grants it for a while (30 days by
default), once a nonce, and never to a relay that was deleted or whose certificate was revoked.
"""

from collections.abc import Callable

from certs.errors import CertificateError
from certs.late_renewal import sign_late_renewal
from relay.control_plane.client import ControlPlaneClient
from relay.identity.own_identity import OwnIdentity
from relay.identity.succession import Succession
from trunkline.client.control_plane_answers import ControlPlaneUnreachable
from trunkline.runtime.threads import in_thread

CHALLENGE_PATH = "/api/2.0/bootstrap/challenge"
LATE_RENEWAL_PATH = "/api/2.0/relays/late-renewal"


class LateRenewal:
    """Gets a successor for an identity that has expired."""

    def __init__(self, *, identity: OwnIdentity, succession: Succession, take_trust: Callable[[str], object]) -> None:
        """Prepare; `take_trust` takes a trust document into force, if it is newer."""
        self._identity = identity
        self._succession = succession
        self._take_trust = take_trust

    async def obtain(self, client: ControlPlaneClient) -> None:
        """Ask for a successor by a client without identity, and keep it; asked again, gives the same.

        Raises:
            ControlPlaneRefused: the control plane does not grant it.
            ClockSkewed: it is the clock that is wrong.
            ControlPlaneUnreachable: there is no usable answer.
            CertificateError: the answer is of no use, or the file system refuses.
        """
        nonce = (await client.call("POST", CHALLENGE_PATH, {})).get("nonce")
        if not isinstance(nonce, str) or not nonce:
            raise ControlPlaneUnreachable("the control plane gave no nonce")
        client.require_clock()
        csr = await in_thread(self._succession.request)
        request = sign_late_renewal(self._identity.current, nonce=nonce, csr=csr)
        answer = await client.call("POST", LATE_RENEWAL_PATH, {"request": request, "csr": csr})
        try:
            # The certificate may stand on a root that came while the relay was off.
            self._take_trust(str(answer.get("trust_document", "")))
        except CertificateError as error:
            raise ControlPlaneUnreachable(f"the control plane's trust document is unusable: {error}") from None
        await in_thread(self._succession.keep, str(answer.get("certificate_chain", "")))
