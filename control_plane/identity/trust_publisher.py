"""The trust document: built from the database, signed, and handed at once to whoever waits for it.

What changes it (a revocation) counts the number up in the transaction that records the change, so the number is
durable before anything is acknowledged. One number stands for one content for ever: a fingerprint of the content is
kept beside the number, and where they disagree (another setting, revocations that ran out) the number goes up. A
restart therefore publishes the same document again, under the same number, with another signature.
"""

import asyncio
import math
from collections.abc import Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from certs.trust import (
    Revocations,
    TrustDocument,
    TrustLock,
    TrustVerdict,
    content_fingerprint,
    sign_trust_document,
)
from certs.trust_form import MAX_RELAYS, is_relay_address
from control_plane.identity.own_identity import OwnIdentity
from control_plane.metrics import ControlPlaneMetrics
from control_plane.signing.seats import read_seats
from control_plane.storage import locks, relays, revocations, trust_publications
from control_plane.storage.accounts import next_trust_sequence, the_account
from control_plane.storage.database import Database
from control_plane.storage.errors import StorageBusyError, StorageFullError, StorageUnreachableError
from control_plane.storage.records.trust import Lock
from control_plane.storage.revocations import Ended
from trunkline.runtime.clock import Clock

RECORDED = (
    "what was changed is recorded, and goes to relays and nodes by itself within two minutes once this has passed"
)
"""How a failure to publish begins: whoever has asked for a revocation must not believe that nothing was done."""
CONTEST_SECONDS = 60.0


class TrustPublisher:
    """Holds the current trust document; `refresh` after every change of what is in it."""

    def __init__(
        self,
        *,
        database: Database,
        identity: OwnIdentity,
        trust_domain: str,
        name_suffix: str,
        renew_within_seconds: int,
        metrics: ControlPlaneMetrics,
        clock: Clock,
    ) -> None:
        self._database = database
        self._identity = identity
        self._trust_domain = trust_domain
        self._name_suffix = name_suffix
        self._renew_within_seconds = renew_within_seconds
        self._metrics = metrics
        self._clock = clock
        self._refreshing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._subscribers: list[Callable[[], None]] = []
        self._document: TrustDocument | None = None
        self._signed_by = ""
        self._builds = 0
        self._published = 0
        self._contested_at = -math.inf
        self.sequence = 0
        self.text = ""

    async def refresh(self) -> None:
        """Publish what the database says now, signed with the present SVID.

        Of many who ask at once all are served by one that reads the database after the last of them has asked.

        Raises:
            StorageFullError, StorageBusyError, StorageUnreachableError: nothing is published; the message says that
                what was recorded stays so.
            TrustError: nor is it where the document would be too long, or malformed.
        """
        asked_after = self._builds
        async with self._refreshing:
            if self._published > asked_after:
                return
            self._builds += 1
            try:
                document = await self._build()
            except (StorageFullError, StorageBusyError, StorageUnreachableError) as error:
                raise type(error)(f"{RECORDED}: {error}") from None
            if document.certificate_verdict(self._identity.svid.serial, self._clock.now()) is not None:
                self._identity.give_up_ended()
            svid = self._identity.svid
            is_new = document.sequence != self.sequence or svid.chain.serial != self._signed_by
            if is_new:
                self.text = sign_trust_document(document, svid)
                self.sequence = document.sequence
                self._document = document
                self._signed_by = svid.chain.serial
                self._metrics.revocations.set(_count(document.revocations))
                self._metrics.locks.set(len(document.locks))
            self._published = self._builds
        if is_new:
            self._tell()

    def _tell(self) -> None:
        """Wake whoever waits for another document."""
        self._metrics.trust_sequence.set(self.sequence)
        self._changed.set()
        self._changed = asyncio.Event()
        for changed in self._subscribers:
            changed()

    async def look(self) -> None:
        """Publish what another control plane over the same database has changed, or what could not be published before.

        So is what is signed with an SVID that has ended and could not be replaced, until it can be.

        Of two whose settings give different documents from the same database, each answers the other's with a number of
        its own; so that these do not run away, that is done once a minute.

        Raises:
            StorageError: the database cannot be read.
            StorageFullError, StorageBusyError, TrustError: as `refresh`.
        """
        async with self._database.read() as session:
            sequence = (await the_account(session)).trust_sequence
        is_contested = self._clock.monotonic() - self._contested_at < CONTEST_SECONDS
        has_ended = self.certificate_verdict(self._identity.svid.serial) is not None
        if has_ended or (sequence != self.sequence and not is_contested):
            await self.refresh()

    def subscribe(self, changed: Callable[[], None]) -> None:
        """Have `changed` called after each document that is published; it must not raise."""
        self._subscribers.append(changed)

    def certificate_verdict(self, serial: str) -> TrustVerdict | None:
        """What the published document says to have ended the use of a certificate: its revocation or lock."""
        return None if self._document is None else self._document.certificate_verdict(serial, self._clock.now())

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
        async with self._database.write() as session:
            account = await the_account(session)
            content = await self._content(session, now_ms)
            fingerprint = content_fingerprint(content)
            if account.trust_fingerprint not in (None, fingerprint):
                if account.trust_sequence != self.sequence:
                    self._contested_at = self._clock.monotonic()
                await next_trust_sequence(session, now_ms)
                await session.refresh(account)
            if account.trust_fingerprint != fingerprint:
                account.trust_fingerprint = fingerprint
            await trust_publications.record(session, account.trust_sequence, fingerprint, now_ms)
        return TrustDocument(
            trust_domain=content.trust_domain,
            sequence=account.trust_sequence,
            issued_at=account.trust_change_time // 1000,
            roots=content.roots,
            token_keys=content.token_keys,
            revocations=content.revocations,
            locks=content.locks,
            name_suffix=content.name_suffix,
            relays=content.relays,
            retirement=content.retirement,
        )

    async def _content(self, session: AsyncSession, now_ms: int) -> TrustDocument:
        """Return the document without its number and time, which are the same in all: what the fingerprint is of.

        Signers are those of the database, whatever this process signs with: under the number that a step of a
        rotation has made, nothing is published but what the step says.
        """
        seats = await read_seats(session, now_ms / 1000)
        return TrustDocument(
            trust_domain=self._trust_domain,
            sequence=1,
            issued_at=1,
            roots=seats.roots,
            token_keys=seats.token_keys,
            revocations=_revocations(await revocations.all_ended(session)),
            locks=[_lock(lock) for lock in await locks.in_force(session, now_ms)],
            name_suffix=self._name_suffix,
            relays=await _relays(session),
            retirement=seats.retirement(self._renew_within_seconds),
        )


async def _relays(session: AsyncSession) -> list[str]:
    """Return the addresses of relays; one that no document can name must not keep all others from being published."""
    urls = [address["url"] for address in await relays.addresses(session)]
    return [url for url in urls if is_relay_address(url)][:MAX_RELAYS]


def _lock(lock: Lock) -> TrustLock:
    """Return the lock as it is published: without its reason, since anybody may read a trust document."""
    return TrustLock(lock.kind, lock.id, -(-lock.expire_time // 1000))


def _revocations(revoked: Sequence[Ended]) -> Revocations:
    return Revocations(
        token_ids=_expiring(revoked, "token"),
        certificates=_expiring(revoked, "certificate"),
        nodes=frozenset(row.id for row in revoked if row.kind == "node"),
        workspaces=frozenset(row.id for row in revoked if row.kind == "workspace"),
    )


def _expiring(revoked: Sequence[Ended], kind: str) -> dict[str, int]:
    """Return when each of the kind can be forgotten, rounded up to whole seconds."""
    return {row.id: -(-(row.expire_time or 0) // 1000) for row in revoked if row.kind == kind}


def _count(revoked: Revocations) -> int:
    return len(revoked.token_ids) + len(revoked.certificates) + len(revoked.nodes) + len(revoked.workspaces)
