"""The trust document: built from the database, signed, and handed at once to whoever waits for it.

What changes it (a revocation) counts the sequence up in the transaction that records the change, so the number is
durable before anything is acknowledged, and a restart publishes the same number again. The signed text is made anew
when the number or the signing SVID changes.
"""

import asyncio
from collections.abc import Sequence

from certs.trust import TrustDocument, sign_trust_document
from cryptography import x509

from control_plane.identity.own_identity import OwnIdentity
from control_plane.metrics import ControlPlaneMetrics
from control_plane.storage import revocations
from control_plane.storage.accounts import the_account
from control_plane.storage.database import Database
from control_plane.storage.records import Account, Lock, Revocation, TokenKey
from control_plane.storage.token_keys import list_token_keys
from trunkline.runtime.clock import Clock


class TrustPublisher:
    """Holds the current trust document; `refresh` after every change of what is in it."""

    def __init__(
        self,
        *,
        database: Database,
        identity: OwnIdentity,
        roots: Sequence[x509.Certificate],
        trust_domain: str,
        name_suffix: str,
        metrics: ControlPlaneMetrics,
        clock: Clock,
    ) -> None:
        self._database = database
        self._identity = identity
        self._roots = tuple(roots)
        self._trust_domain = trust_domain
        self._name_suffix = name_suffix
        self._metrics = metrics
        self._clock = clock
        self._refreshing = asyncio.Lock()
        self._changed = asyncio.Event()
        self.sequence = 0
        self.text = ""

    async def refresh(self) -> None:
        """Publish what the database says now."""
        async with self._refreshing:
            document = await self._build()
            text = sign_trust_document(document, self._identity.svid)
            if document.sequence < self.sequence:
                return
            self.sequence = document.sequence
            self.text = text
        self._metrics.trust_sequence.set(self.sequence)
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for_change(self, seen: str, timeout_seconds: float) -> bool:
        """Wait until the published text is another than the one seen; False if it stayed the same for that long."""
        if self.text != seen:
            return True
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._changed.wait()
        except TimeoutError:
            return self.text != seen
        return True

    async def _build(self) -> TrustDocument:
        now_ms = int(self._clock.now() * 1000)
        async with self._database.read() as session:
            account = await the_account(session)
            keys = await list_token_keys(session)
            revoked = await revocations.live(session, now_ms)
            locks = await revocations.locks(session, now_ms)
        return self._document(account, keys, revoked, locks)

    def _document(
        self, account: Account, keys: Sequence[TokenKey], revoked: Sequence[Revocation], locks: Sequence[Lock]
    ) -> TrustDocument:
        raise NotImplementedError
