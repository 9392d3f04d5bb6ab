"""What a step changes in the database: signer, phase, number of the trust document and audit, or nothing at all.

Everything here runs inside one write transaction of the caller's. A step compares the version of the row that it
changes, so of two control planes that take a step at once one is told to look again.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.errors import ApiError, ErrorCode, conflict
from control_plane.rotation.gates import Verdict
from control_plane.signing.making import Made
from control_plane.signing.phases import TRANSITIONS, Phase, Seat, SignerKind, Step, Transition, legal_steps
from control_plane.signing.seats import Seats
from control_plane.storage import rotations, signers
from control_plane.storage.accounts import next_trust_sequence
from control_plane.storage.audit import Actor, Happening, append
from control_plane.storage.records.signers import Signer

MOST_NAMED = 100
REVOKE = "revoke"


@dataclass(frozen=True, slots=True)
class Asked:
    """A step as somebody asks for it; `version` is the one that they saw, if they say."""

    kind: SignerKind
    step: Step
    actor: Actor
    version: int | None = None
    force: bool = False
    reason: str = ""


def transition_for(asked: Asked, seats: Seats) -> Transition | None:
    """Return what the step does, or None if it is the one that was taken last, and is only asked for again.

    Raises:
        ApiError: RESOURCE_CONFLICT: the phase has no such step, or the rotation is not where the asker saw it.
    """
    rotation = seats.rotation
    transition = TRANSITIONS.get((seats.phase, asked.step))
    repeated = rotation.step == asked.step.value
    if asked.version is not None and asked.version != rotation.version:
        if repeated and asked.version == rotation.version - 1:
            return None
        raise conflict(f"the rotation went on meanwhile: it is {_where(seats)} now; look again, then decide")
    if transition is None and not repeated:
        steps = " or ".join(step.value for step in legal_steps(seats.phase))
        raise conflict(f"there is nothing to {asked.step.value}: the rotation is {_where(seats)}; next is {steps}")
    return transition


async def take_step(
    session: AsyncSession,
    seats: Seats,
    asked: Asked,
    transition: Transition,
    made: Made | None,
    verdict: Verdict,
    now: float,
) -> None:
    """Write a step down.

    Raises:
        ApiError: RESOURCE_CONFLICT: the gate is shut and not to be forced, or another process took a step.
    """
    if not verdict.open and not (asked.force and verdict.forcible):
        raise shut(asked.step, verdict)
    now_ms = int(now * 1000)
    incumbent_id, candidate_id = seats.incumbent.signer_id, seats.rotation.candidate_id
    if made is not None:
        candidate_id = (await _add(session, asked.kind, made, now_ms)).signer_id
    if transition.ends is not None:
        signers.end(seats.at(transition.ends), _end_state(seats), now_ms)
        if transition.ends is Seat.INCUMBENT and candidate_id is not None:
            incumbent_id = candidate_id
        candidate_id = None
    changes = {"phase": transition.to.value, "incumbent_id": incumbent_id, "candidate_id": candidate_id}
    await _advance(session, seats, changes, asked.step.value, asked.actor, now_ms)
    happening = Happening(
        f"{asked.kind.value}.{asked.step.value}",
        resource=candidate_id or incumbent_id,
        details=_details(seats, asked, transition, verdict),
    )
    append(session, now, asked.actor, happening)


async def revoke_key(
    session: AsyncSession, seats: Seats, key_id: str, made: Made | None, reason: str, actor: Actor, now: float
) -> bool:
    """End a token key at once; `made` signs from now on if no other key is trusted. Returns whether it was news.

    Raises:
        LookupError: there is no such key.
        ApiError: RESOURCE_CONFLICT: another process took a step, or a key has to be made.
    """
    now_ms = int(now * 1000)
    revoked = await signers.find(session, key_id)
    if revoked is None or revoked.kind != SignerKind.SIGNING_KEY.value:
        raise LookupError("there is no such signing key")
    if revoked.state == signers.REVOKED:
        return False
    changes: dict[str, str | None] = {"phase": seats.phase.value}
    if revoked.state == signers.TRUSTED:
        heir = next((signer for signer in seats.trusted if signer.signer_id != key_id), None)
        if heir is None and made is None:
            raise conflict("the rotation went on meanwhile; ask again")
        heir = heir or await _add(session, SignerKind.SIGNING_KEY, made, now_ms)  # type: ignore[arg-type]
        changes = {"phase": Phase.STEADY.value, "incumbent_id": heir.signer_id, "candidate_id": None}
    signers.end(revoked, signers.REVOKED, now_ms)
    await _advance(session, seats, changes, REVOKE, actor, now_ms)
    details = {"reason": reason, "active": changes.get("incumbent_id") or seats.active.signer_id}
    append(session, now, actor, Happening("signing-key.revoke", resource=key_id, details=details))
    return True


def shut(step: Step, verdict: Verdict) -> ApiError:
    """Return the refusal of a step whose gate is shut, with who keeps it shut."""
    details = [
        {"field": laggard.machine.name, "kind": laggard.machine.standing.kind, "problem": laggard.problem}
        for laggard in verdict.named[:MOST_NAMED]
    ]
    if verdict.laggards:
        names = ", ".join(laggard.machine.name for laggard in verdict.named[:5])
        more = f" and {verdict.behind - 5} more" if verdict.behind > 5 else ""
        message = f"too early to {step.value}: {names}{more} have not followed yet"
    else:
        message = f"too early to {step.value}: tokens of the key that is to end are out"
    if verdict.tokens_until is not None:
        problem = f"tokens are out until {verdict.tokens_until} (milliseconds since the epoch)"
        details.append({"field": "tokens", "kind": "tokens", "problem": problem})
    return ApiError(ErrorCode.RESOURCE_CONFLICT, message, details=details)


async def _add(session: AsyncSession, kind: SignerKind, made: Made, now_ms: int) -> Signer:
    signer = signers.add(session, made.signer_id, kind.value, made.form, made.key_names, now_ms)
    await session.flush()
    return signer


async def _advance(
    session: AsyncSession, seats: Seats, changes: Mapping[str, str | None], step: str, actor: Actor, now_ms: int
) -> None:
    """Change the row and count the trust document up, which this makes durable before anything is published."""
    await session.flush()
    sequence = await next_trust_sequence(session, now_ms)
    stamps = {"step": step, "step_time": now_ms, "stepped_by": actor.name[:512], "gate_sequence": sequence}
    if not await rotations.advance(session, seats.rotation.kind, seats.rotation.version, {**changes, **stamps}):
        raise conflict("another control plane took a step at the same time; look again, then decide")


def _end_state(seats: Seats) -> str:
    """A candidate that was only prepared never signed: nothing can stand on it."""
    return signers.WITHDRAWN if seats.phase is Phase.PREPARED else signers.LEFT


def _details(seats: Seats, asked: Asked, transition: Transition, verdict: Verdict) -> dict[str, object]:
    details: dict[str, object] = {"from": seats.phase.value, "to": transition.to.value}
    if not verdict.open:
        details["forced"] = True
        details["laggards"] = [laggard.machine.subject_id for laggard in verdict.named[:MOST_NAMED]]
    return details | ({"reason": asked.reason} if asked.reason else {})


def _where(seats: Seats) -> str:
    return f"{seats.phase.value} (version {seats.rotation.version})"
