"""Handing the trust document that this relay holds to a control plane that does not know it.

A control plane that was restored from a backup has forgotten what it published since: its numbers start again below
those that relays hold, and revocations that it acknowledged are gone from its database. They are not gone from the
relays. So a relay says which document it holds when it begins to follow; where the control plane answers that it never
published that one (409), the relay hands it over, signed as it is, and the control plane takes back what it has lost.
"""

from urllib.parse import urlencode

from certs.errors import CertificateError
from certs.trust import fingerprint_of_text
from relay.control_plane.client import ControlPlaneClient
from trunkline.client.control_plane_answers import ControlPlaneRefused
from trunkline.runtime.logs import Logger

HELD_PATH = "/api/2.0/trust-document/held"
UNKNOWN_DOCUMENT_STATUS = 409


class TrustHandOver:
    """Says what is held, and hands it over where it is asked for."""

    def __init__(self, client: ControlPlaneClient, log: Logger) -> None:
        self._client = client
        self._log = log
        self._refused: str | None = None

    def query(self, sequence: int, held: str | None) -> str:
        """Return the query that tells the control plane what is held; empty where it has refused that very document."""
        if held is None or held == self._refused:
            return ""
        try:
            return "?" + urlencode({"sequence": sequence, "fingerprint": fingerprint_of_text(held)})
        except CertificateError:
            return ""

    def refused(self, held: str | None) -> bool:
        """Whether the control plane has refused to take this document back, so that to say it again is of no use."""
        return held is not None and held == self._refused

    async def give(self, sequence: int, held: str | None) -> None:
        """Hand the document over. One that is refused is not offered again: the relay follows without it.

        Raises:
            ControlPlaneRefused, ControlPlaneUnreachable: it may be taken later.
        """
        self._log.warning("trust.handed_over", sequence=sequence, reason="the control plane does not know it")
        try:
            await self._client.call("POST", HELD_PATH, {"trust_document": held})
        except ControlPlaneRefused as error:
            if not error.permanent:
                raise
            self._refused = held
            self._log.error("trust.not_taken_back", sequence=sequence, reason=str(error),
                            advice="see `Restore from a backup` in docs/operations.md")  # fmt: skip
