"""A node that has its identity and has lost its trust document fetches the newest one, as it was given its first.

The control plane's TLS vouches for it, as in a bootstrap; and it must trust the authority of the node's certificate.
A bootstrap is no way back for such a node where it joined with a token: that one is used up.
"""

import asyncio

from certs.chains import verify_chain
from certs.errors import CertificateError, KeyFileError
from node_agent.identity.control_plane import ControlPlane
from node_agent.identity.node_identity import NodeIdentity
from node_agent.identity.trust_in_force import TrustInForce
from node_agent.identity.trust_watch import TRUST_PATH
from trunkline.client.control_plane_answers import ControlPlaneRefused, ControlPlaneUnreachable
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger


class LostTrust:
    """Brings a trust document into force where there is none."""

    def __init__(
        self, *, control_plane: ControlPlane, trust: TrustInForce, backoff: Backoff, clock: Clock, log: Logger
    ) -> None:
        self._control_plane = control_plane
        self._trust = trust
        self._backoff = backoff
        self._clock = clock
        self._log = log

    async def replace(self, node: NodeIdentity) -> bool:
        """Fetch a document, however long it takes; whether it trusts the authority of this node, which is valid now.

        Raises:
            KeyFileError: the state directory does not take it.
        """
        while True:
            try:
                await self._fetch()
            except KeyFileError:
                raise
            except (ControlPlaneRefused, ControlPlaneUnreachable, CertificateError) as error:
                await self._pause(str(error))
            else:
                return self._is_of_it(node)

    async def _fetch(self) -> None:
        answer = await self._control_plane.call(TRUST_PATH, method="GET")
        self._control_plane.require_clock()
        self._trust.take(str(answer.get("trust_document", "")))

    def _is_of_it(self, node: NodeIdentity) -> bool:
        document = self._trust.store.current
        try:
            verify_chain(node.identity.chain, () if document is None else document.roots, self._clock.now())
        except CertificateError as error:
            self._log.error("trust.of_another_authority", reason=str(error), consequence="the node bootstraps again")
            return False
        self._log.warning("trust.replaced", sequence=self._trust.sequence, reason="the stored document was lost")
        return True

    async def _pause(self, reason: str) -> None:
        delay = self._backoff.next_delay_seconds(self._clock.monotonic())
        self._log.warning("trust.not_fetched", reason=reason, retry_seconds=round(delay, 1))
        await asyncio.sleep(delay)
