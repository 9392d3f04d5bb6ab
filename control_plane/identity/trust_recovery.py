"""Taking back what a restored database has forgotten, from a trust document that somebody still holds.

Theory of operation. A database that was restored from a backup starts again at an old number, without the revocations
and locks that were acknowledged since. Relays and nodes hold the newer document, and take no older one, nor another
under the same number. Each says which document it holds; one that this control plane never published (see
`trust_publications`) is asked for, and its signature verified: nobody but a control plane of this trust domain can have
made it. Its revocations, and its locks that have not expired, are added to the database, and the number goes beyond it,
so that what is published next is taken by everybody, and ends at least what was ended before.

A certificate that was revoked or locked may have been renewed here before this was heard of: what came of that is too.
And of certificates that expired in the time that was lost nobody knows any more whether they had been revoked, since
documents do not name them for longer than a day: their keys are good for no late renewal.

A signing key that was revoked since, or an authority that was retired, is ended again too: the document is of later
than it was made, and does not have it (`control_plane.signing.forgotten_ends`). Where the only key that signs tokens
ends so, another is made.

An authority that has signed since is not known here, though relays and nodes have certificates of it; what it has
issued is taken until it is renewed (`control_plane.signing.forgotten_authorities`).

Only a document under a root that is trusted now counts, be it by a cross certificate: the key of one that was left may
have leaked, and whoever has it could revoke everything. A document only ever ends things here, and never adds keys or
roots that sign or are published: whoever could replay one gains nothing by it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from cryptography import x509
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from certs.chains import CertificateChain
from certs.errors import CertificateError
from certs.trust import TrustDocument, fingerprint_of_text, signer_chain_of_text, verify_held_trust_document
from control_plane.errors import ApiError, conflict, invalid
from control_plane.metrics import ControlPlaneMetrics
from control_plane.names import new_id
from control_plane.settings import DAY_SECONDS
from control_plane.signing.forgotten_authorities import end_recorded, record_forgotten
from control_plane.signing.forgotten_ends import end_forgotten, forgotten_ends, needs_token_key, note_taken_back
from control_plane.signing.key_stores import KeyStores
from control_plane.signing.making import SIGNING, Made, make_token_key
from control_plane.signing.phases import SignerKind
from control_plane.signing.seats import read_seats
from control_plane.storage import audit, certificates, locks, revocations, trust_publications
from control_plane.storage.accounts import the_account
from control_plane.storage.audit import Actor, Happening, append
from control_plane.storage.database import Database
from control_plane.storage.records.accounts import Account
from control_plane.storage.records.certificates import Certificate
from control_plane.storage.records.trust import Lock, Revocation
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

MOST_AHEAD = 1_000_000
"""How many numbers a database can have lost; a document further ahead would use the numbers up."""
NAMED_AFTER_EXPIRY_SECONDS = DAY_SECONDS
"""For so long documents name a revoked certificate that has expired; housekeeping forgets it not before."""
RECOVERED_REASON = "taken back after a restore; its reason is lost"


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a document added, and the number after it; None where it was known already."""

    sequence: int | None = None
    revocations: int = 0
    locks: int = 0
    signers: int = 0
    doubtful: int = 0
    """Certificates whose keys are good for no late renewal any more."""
    authority: str | None = None
    """The authority that has signed since, if there is one that was forgotten."""


class TrustRecovery:
    """Judges documents that others hold, and takes back what they say."""

    def __init__(
        self,
        *,
        database: Database,
        roots: Callable[[], Sequence[x509.Certificate]],
        stores: KeyStores,
        trust_domain: str,
        metrics: ControlPlaneMetrics | None,
        clock: Clock,
        log: Logger,
    ) -> None:
        self._database = database
        self._roots = roots
        self._stores = stores
        self._trust_domain = trust_domain
        self._metrics = metrics
        self._clock = clock
        self._log = log

    async def knows(self, sequence: int, fingerprint: str) -> bool:
        """Tell whether this control plane has published the document with this number and content."""
        async with self._database.read() as session:
            account = await the_account(session)
            return await trust_publications.was_published(
                session, sequence, fingerprint, current=account.trust_sequence
            )

    async def take_back(self, text: str, actor: Actor) -> Recovered:
        """Add what a document says that was never published by this database; follow the rotations afterwards.

        Raises:
            ApiError: INVALID_PARAMETER_VALUE where it is not genuine, RESOURCE_CONFLICT where it is too far ahead, or
                shows that the authority of this database was retired.
            CertificateError: a key that is needed cannot be stored.
        """
        document, fingerprint = self._verified(text)
        made = await self._key_for(document, fingerprint)
        try:
            recovered = await self._write(document, signer_chain_of_text(text), fingerprint, made, actor)
        except ApiError:
            await self._discard(made)
            raise
        if recovered.sequence is not None and self._metrics is not None:
            self._metrics.trust_recoveries.inc()
        return recovered

    async def _write(
        self, document: TrustDocument, signed_by: CertificateChain, fingerprint: str, made: Made | None, actor: Actor
    ) -> Recovered:
        now = self._clock.now()
        now_ms = int(now * 1000)
        async with self._database.write() as session:
            account = await the_account(session)
            before = account.trust_sequence
            if await trust_publications.was_published(session, document.sequence, fingerprint, current=before):
                return Recovered()
            if document.sequence - before > MOST_AHEAD:
                raise conflict(f"the document's number {document.sequence} is more than {MOST_AHEAD} ahead of {before}")
            seats = await read_seats(session, now)
            ends = forgotten_ends(seats, document)
            sequence, recovered = await _merge(session, account, document, len(ends), actor, now_ms)
            await end_forgotten(session, seats, ends, made, by=actor.name, sequence=sequence, now_ms=now_ms)
            gone = end_recorded(seats, document, now_ms)
            if (authority := await record_forgotten(session, document, signed_by, now_ms)) is not None:
                recovered = replace(recovered, authority=authority.signer_id)
            if authority is not None or gone:
                await note_taken_back(session, SignerKind.CA, by=actor.name, sequence=sequence, now_ms=now_ms)
            await trust_publications.record(session, document.sequence, fingerprint, now_ms)
            details: dict[str, object] = {
                "held_sequence": document.sequence,
                "sequence_before": before,
                "sequence": recovered.sequence,
                "revocations": recovered.revocations,
                "locks": recovered.locks,
                "doubtful_certificates": recovered.doubtful,
                "signers": [end.signer.signer_id for end in ends],
            }
            if recovered.authority is not None:
                details["authority"] = recovered.authority
            append(session, now, actor, Happening("trust_document.take_back", details=details))
        self._log.error("trust.taken_back", reason="the database was older than what was published", **details)
        return recovered

    async def _key_for(self, document: TrustDocument, fingerprint: str) -> Made | None:
        """Make a token key where the document leaves none; stored, as every key, before a row names it."""
        if await self.knows(document.sequence, fingerprint):
            return None
        async with self._database.read() as session:
            seats = await read_seats(session, self._clock.now())
        if not needs_token_key(seats, forgotten_ends(seats, document)):
            return None
        return await asyncio.to_thread(make_token_key, self._stores)

    async def _discard(self, made: Made | None) -> None:
        if made is not None:
            await asyncio.to_thread(self._stores.tokens.destroy, made.key_names[SIGNING])

    def _verified(self, text: str) -> tuple[TrustDocument, str]:
        try:
            document = verify_held_trust_document(text, self._roots())
            fingerprint = fingerprint_of_text(text)
        except CertificateError as error:
            raise invalid("trust_document", f"it is not one of this trust domain: {error}") from None
        if document.trust_domain != self._trust_domain:
            raise invalid("trust_document", "it is of another trust domain")
        return document, fingerprint


async def _merge(
    session: AsyncSession, account: Account, document: TrustDocument, ended_signers: int, actor: Actor, now_ms: int
) -> tuple[int, Recovered]:
    """Add what is missing, and return the number after it; each change has one of its own, as if it were made now."""
    sequence = max(account.trust_sequence, document.sequence)
    lost_revocations = [row async for row in _lost_revocations(session, document, now_ms)]
    lost_locks = [row async for row in _lost_locks(session, document, now_ms)]
    heirs = await _renewed_since(session, document, [*lost_revocations, *lost_locks])
    lost_revocations += [_as_revoked(heir, now_ms) for heir, ended_by in heirs if isinstance(ended_by, Revocation)]
    lost_locks += [_as_locked(heir, ended_by) for heir, ended_by in heirs if isinstance(ended_by, Lock)]
    doubtful = await _forget_doubtful(session, document)
    for number, revocation in enumerate(lost_revocations, sequence + 1):
        revocation.sequence, revocation.revoked_by = number, actor.name
    sequence += len(lost_revocations)
    for number, lock in enumerate(lost_locks, sequence + 1):
        lock.sequence, lock.locked_by = number, actor.name
    session.add_all([*lost_revocations, *lost_locks])
    sequence += len(lost_locks) + ended_signers
    sequence = max(sequence, document.sequence + 1)
    changed = {"trust_sequence": sequence, "trust_change_time": now_ms, "trust_fingerprint": None}
    await session.execute(update(Account).values(changed))
    return sequence, Recovered(sequence, len(lost_revocations), len(lost_locks), ended_signers, doubtful)


def _ended(document: TrustDocument) -> Iterator[tuple[str, str, int | None]]:
    revoked = document.revocations
    for kind, expiring in (("token", revoked.token_ids), ("certificate", revoked.certificates)):
        yield from ((kind, name, until * 1000) for name, until in expiring.items())
    for kind, names in (("node", revoked.nodes), ("workspace", revoked.workspaces)):
        yield from ((kind, name, None) for name in names)


async def _lost_revocations(session: AsyncSession, document: TrustDocument, now_ms: int) -> AsyncIterator[Revocation]:
    for kind, name, expire_time in _ended(document):
        # The key of a certificate that has expired would still be good for a late renewal.
        if kind == "token" and expire_time is not None and expire_time <= now_ms:
            continue
        if not await revocations.is_revoked(session, kind, name):
            yield Revocation(kind=kind, id=name, expire_time=expire_time, creation_time=now_ms)


async def _lost_locks(session: AsyncSession, document: TrustDocument, now_ms: int) -> AsyncIterator[Lock]:
    for lock in document.locks:
        expire_time = lock.expires_at * 1000
        if expire_time > now_ms and not await locks.is_locked(session, lock.kind, lock.id, now_ms):
            yield Lock(
                lock_id=new_id("lk"), kind=lock.kind, id=lock.id, reason=RECOVERED_REASON,
                lifetime_seconds=(expire_time - now_ms) // 1000, creation_time=now_ms, expire_time=expire_time,
                ended=False,
            )  # fmt: skip


async def _renewed_since(
    session: AsyncSession, document: TrustDocument, lost: Sequence[Revocation | Lock]
) -> list[tuple[Certificate, Revocation | Lock]]:
    """Return what was renewed here, before the document was seen, by certificates that it ends, each with that end."""
    named = {end.id: end for end in lost if end.kind == "certificate"}
    ends, heirs = dict(named), []
    for renewal in await audit.renewals_since(session, document.issued_at * 1000):
        end = ends.get(renewal.details.get("by_certificate", ""))
        serial = renewal.details["certificate"]
        if end is None or serial in named or await revocations.is_revoked(session, "certificate", serial):
            continue
        ends[serial] = end
        if (heir := await certificates.find(session, serial)) is not None:
            heirs.append((heir, end))
    return heirs


def _as_revoked(certificate: Certificate, now_ms: int) -> Revocation:
    return Revocation(
        kind="certificate", id=certificate.serial, expire_time=certificate.expire_time, creation_time=now_ms
    )


def _as_locked(certificate: Certificate, lock: Lock) -> Lock:
    """Return the lock of what the certificate that it is for was renewed into."""
    return Lock(
        lock_id=new_id("lk"), kind="certificate", id=certificate.serial, reason=RECOVERED_REASON,
        lifetime_seconds=lock.lifetime_seconds, creation_time=lock.creation_time, expire_time=lock.expire_time,
        ended=False,
    )  # fmt: skip


async def _forget_doubtful(session: AsyncSession, document: TrustDocument) -> int:
    """Forget certificates that expired after the backup and too long before the document for it to name them.

    The backup is as old as the newest event in the audit that is not newer than the document.
    """
    issued_ms = document.issued_at * 1000
    backup_ms = await audit.newest_time(session, until_ms=issued_ms)
    return await certificates.remove_expired_between(session, backup_ms, issued_ms - NAMED_AFTER_EXPIRY_SECONDS * 1000)
