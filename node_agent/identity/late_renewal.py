"""Late renewal: a node that was off until its certificate had expired asks for the next one, signed with the old key.

It is for nodes without a platform that attests them: their join token is used up, and their key is what they are still
known by. The control plane grants it for a while (30 days by default), once a nonce, and never to a revoked node.
"""

from certs.late_renewal import sign_late_renewal
from node_agent.identity.control_plane import ControlPlane
from node_agent.identity.node_identity import NodeIdentity
from node_agent.identity.sealed_secrets import public_sealing_key
from node_agent.identity.succession import Succession
from trunkline.client.control_plane_answers import ControlPlaneUnreachable
from trunkline.version import __version__

CHALLENGE_PATH = "/api/2.0/bootstrap/challenge"
LATE_RENEWAL_PATH = "/api/2.0/nodes/late-renewal"


class LateRenewal:
    """Gets a successor for an identity that has expired."""

    def __init__(self, control_plane: ControlPlane, succession: Succession) -> None:
        self._control_plane = control_plane
        self._succession = succession

    async def obtain(self, node: NodeIdentity) -> NodeIdentity:
        """Ask for a successor, and keep it in the second slot; asked again, gives the same.

        Raises:
            ControlPlaneRefused: the control plane does not grant it.
            ClockSkewed: it is the clock that is wrong.
            ControlPlaneUnreachable: there is no usable answer.
            CertificateError: the answer is of no use, or the file system refuses.
        """
        nonce = (await self._control_plane.call(CHALLENGE_PATH, {})).get("nonce")
        if not isinstance(nonce, str) or not nonce:
            raise ControlPlaneUnreachable("the control plane gave no nonce")
        self._control_plane.require_clock()
        attempt = await self._succession.attempt(node)
        sealing_key = public_sealing_key(attempt.sealing_key)
        request = sign_late_renewal(node.identity, nonce=nonce, csr=attempt.csr, sealing_key=sealing_key)
        document = {"request": request, "csr": attempt.csr, "agent_version": __version__}
        answer = await self._control_plane.call(LATE_RENEWAL_PATH, document)
        return await self._succession.keep(node, attempt, answer)
