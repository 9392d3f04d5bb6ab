"""Ends of signers that a restored database has forgotten, as a trust document that was published later shows them.

A signer is in every trust document from the moment that it is made until it ends. So a genuine document of later than a
signer was made, in which it is not trusted, proves that it has ended since: it was revoked, retired or withdrawn, and a
database that trusts it is older. It is ended again, whatever phase the rotation is in, and what remains is steady. A
document only ever ends signers here: keys and roots that this database does not know stay unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from certs.fingerprints import sha256_hex
from certs.trust import TrustDocument
from control_plane.errors import conflict
from control_plane.signing.making import Made
from control_plane.signing.phases import Phase, Seat, SignerKind
from control_plane.signing.seats import AllSeats, Seats
from control_plane.storage import rotations, signers
from control_plane.storage.records.signers import Signer

STEP = "take-back"


@dataclass(frozen=True, slots=True)
class ForgottenEnd:
    """A signer that is trusted here, and that the document shows as ended."""

    signer: Signer
    state: str


def forgotten_ends(seats: AllSeats, document: TrustDocument) -> list[ForgottenEnd]:
    """Return the signers that are trusted here and that the document shows as ended."""
    roots = {sha256_hex(root) for root in document.roots}
    keys = {key.key_id for key in document.token_keys}
    return [*_ended(seats.ca, roots, document), *_ended(seats.signing_key, keys, document)]


def needs_token_key(seats: AllSeats, ends: Sequence[ForgottenEnd]) -> bool:
    """Whether no token key is left without these, so that another has to be made."""
    ended = {end.signer.signer_id for end in ends}
    return all(signer.signer_id in ended for signer in seats.signing_key.trusted)


async def end_forgotten(
    session: AsyncSession,
    seats: AllSeats,
    ends: Sequence[ForgottenEnd],
    made: Made | None,
    *,
    by: str,
    sequence: int,
    now_ms: int,
) -> None:
    """End these signers; `made` signs tokens from now on where no other key is left.

    Raises:
        ApiError: RESOURCE_CONFLICT: no authority is left, or another process took a step.
    """
    for kind in SignerKind:
        of_kind = [end for end in ends if end.signer.kind == kind.value]
        if of_kind:
            heir = await _heir(session, seats.of(kind), of_kind, made, now_ms)
            for end in of_kind:
                signers.end(end.signer, end.state, now_ms)
            await _settle(session, seats.of(kind), heir, by, sequence, now_ms)


async def note_taken_back(session: AsyncSession, kind: SignerKind, *, by: str, sequence: int, now_ms: int) -> None:
    """Count the rotation's version up, so that who has read its signers reads them again; its phase stays.

    Raises:
        ApiError: RESOURCE_CONFLICT: another process took a step.
    """
    await session.flush()
    rotation = await rotations.find(session, kind.value)
    stamps = {"step": STEP, "step_time": now_ms, "stepped_by": by[:512], "gate_sequence": sequence}
    if rotation is None or not await rotations.advance(session, kind.value, rotation.version, stamps):
        raise conflict("another control plane took a step at the same time; ask again")


def _ended(seats: Seats, trusted: set[str], document: TrustDocument) -> list[ForgottenEnd]:
    """A document of the second in which a signer was made may be of just before, and so proves nothing of it."""
    gone = [signer for signer in seats.trusted if signer.signer_id not in trusted]
    since_ms = document.issued_at * 1000
    return [ForgottenEnd(signer, _state(seats, signer, document)) for signer in gone if signer.creation_time < since_ms]


def _state(seats: Seats, signer: Signer, document: TrustDocument) -> str:
    if seats.phase is Phase.PREPARED and signer is seats.at(Seat.CANDIDATE):
        return signers.WITHDRAWN
    if signer.kind == SignerKind.CA.value or signer.signer_id in document.retirement.left_token_keys:
        return signers.LEFT
    return signers.REVOKED


async def _heir(
    session: AsyncSession, seats: Seats, ends: Sequence[ForgottenEnd], made: Made | None, now_ms: int
) -> Signer:
    ended = {end.signer.signer_id for end in ends}
    heir = next((signer for signer in seats.trusted if signer.signer_id not in ended), None)
    if heir is not None:
        return heir
    kind = SignerKind(seats.rotation.kind)
    if kind is SignerKind.CA:
        raise conflict(
            "the authority of this database was retired since, and nobody trusts it any more: restore a backup "
            "(database, authority/ and signers/) from after that `ca retire`"
        )
    if made is None:
        raise conflict("a rotation went on meanwhile; ask again")
    added = signers.add(session, made.signer_id, kind.value, made.form, made.key_names, now_ms)
    await session.flush()
    return added


async def _settle(session: AsyncSession, seats: Seats, heir: Signer, by: str, sequence: int, now_ms: int) -> None:
    await session.flush()
    changes = {
        "phase": Phase.STEADY.value,
        "incumbent_id": heir.signer_id,
        "candidate_id": None,
        "step": STEP,
        "step_time": now_ms,
        "stepped_by": by[:512],
        "gate_sequence": sequence,
    }
    if not await rotations.advance(session, seats.rotation.kind, seats.rotation.version, changes):
        raise conflict("another control plane took a step at the same time; ask again")
