"""Handing the trust document that this node holds to a control plane that has published older ones since.

A relay that pushes an older document may only be late. It may also follow a control plane that was restored from a
backup, and if no relay holds what was lost, nodes are the last that do. So after a while, at a random moment that
differs from node to node, the document is handed over: one that the control plane knows changes nothing there.
"""

import asyncio
import random

from node_agent.identity.control_plane import ControlPlane
from node_agent.identity.credentials import Credentials
from node_agent.identity.trust_in_force import TrustInForce
from trunkline.client.control_plane_answers import ControlPlaneRefused, ControlPlaneUnreachable
from trunkline.runtime.logs import Logger

HELD_PATH = "/api/2.0/nodes/self/held-trust-document"
EARLIEST_SECONDS, LATEST_SECONDS = 30.0, 120.0


class TrustHandOver:
    """Hands each document over once, if it was ever found to be ahead of what a relay has."""

    def __init__(
        self,
        control_plane: ControlPlane,
        credentials: Credentials,
        trust: TrustInForce,
        rng: random.Random,
        log: Logger,
    ) -> None:
        self._control_plane = control_plane
        self._credentials = credentials
        self._trust = trust
        self._rng = rng
        self._log = log
        self._given: str | None = None
        self._wanted = asyncio.Event()
        trust.on_rollback(self._wanted.set)

    async def run(self) -> None:
        """Wait for an older document, and hand over what is held; until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._trust.store.text == self._given:
                continue
            await asyncio.sleep(self._rng.uniform(EARLIEST_SECONDS, LATEST_SECONDS))
            held = self._trust.store.text
            try:
                await self._control_plane.call(
                    HELD_PATH, {"trust_document": held}, identity=self._credentials.current.identity
                )
            except ControlPlaneRefused as error:
                self._given = held if error.permanent else self._given
                self._log.warning("trust.not_handed_over", sequence=self._trust.sequence, reason=str(error))
            except ControlPlaneUnreachable as error:
                self._log.warning("trust.not_handed_over", sequence=self._trust.sequence, reason=str(error))
                self._wanted.set()
            else:
                self._given = held
                self._log.info("trust.handed_over", sequence=self._trust.sequence)
