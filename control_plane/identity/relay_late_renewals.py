"""Late renewals of relays: one whose certificate expired while it was off, or cut off, gets the next by its key."""

from control_plane.identity.issuance import Issuance
from control_plane.identity.late_requests import LateRequests, refused
from control_plane.storage import relays
from control_plane.storage.audit import Actor, Happening, append
from control_plane.storage.database import Database
from trunkline.runtime.clock import Clock

METHOD = "relay_late_renewal"


class RelayLateRenewals:
    """Decides about relays that were off for long."""

    def __init__(self, *, database: Database, requests: LateRequests, issuance: Issuance, clock: Clock) -> None:
        self._database = database
        self._requests = requests
        self._issuance = issuance
        self._clock = clock

    async def decide(self, text: str, csr: str, actor: Actor) -> str:
        """Issue the relay's next leaf, with the DNS names of its record, and return its chain; or refuse.

        Raises:
            ApiError: why not.
        """
        with self._requests.counted(METHOD, "relay.late_renewal", actor):
            return await self._decide(text, csr, actor)

    async def _decide(self, text: str, csr: str, actor: Actor) -> str:
        request = await self._requests.read(text, csr, "relay")
        now = self._clock.now()
        async with self._database.write() as session:
            used = await self._requests.use(session, request, now)
            relay = await relays.find(session, used.subject_id)
            if relay is None:
                raise refused("this relay was deleted")
            certificate = await self._issuance.relay_certificate(session, relay, csr, origin="late_renewal", now=now)
            details = {"by_certificate": used.serial, "certificate": certificate.serial}
            append(session, now, actor, Happening("relay.late_renewal", resource=relay.relay, details=details))
        return certificate.chain
