"""Seats: who sits where in each rotation, read from the database in one transaction, and what follows from it."""

from dataclasses import dataclass

from cryptography import x509
from sqlalchemy.ext.asyncio import AsyncSession

from certs.keyring import TokenKey, read_token_key
from certs.succession import AuthorityCertificates
from certs.trust_form import MAX_TOKEN_KEYS, Retirement
from control_plane.signing.phases import LEAVES, SIGNS, Phase, Seat, SignerKind
from control_plane.storage import rotations, signers
from control_plane.storage.records.signers import Rotation, Signer

# The longest life of anything that may still stand on a signer that was left: a relay's certificate, a workspace token.
LONGEST_STANDING_SECONDS = 31 * 86_400


@dataclass(frozen=True, slots=True)
class Seats:
    """The rotation of one kind of signer."""

    rotation: Rotation
    incumbent: Signer
    candidate: Signer | None

    @property
    def phase(self) -> Phase:
        """Where the rotation stands."""
        return Phase(self.rotation.phase)

    @property
    def active(self) -> Signer:
        """The one signer that signs."""
        return self.at(SIGNS[self.phase])

    @property
    def retiring(self) -> Signer | None:
        """The signer that is trusted still, and to be left."""
        seat = LEAVES.get(self.phase)
        return None if seat is None else self.at(seat)

    @property
    def trusted(self) -> tuple[Signer, ...]:
        """The signers that are trusted, the one that signs first."""
        others = (self.incumbent, self.candidate)
        active = self.active
        return (active, *(signer for signer in others if signer is not None and signer is not active))

    def at(self, seat: Seat) -> Signer:
        """The signer in a seat that the phase says is taken.

        Raises:
            LookupError: it is empty, which no legal phase allows.
        """
        signer = self.incumbent if seat is Seat.INCUMBENT else self.candidate
        if signer is None:
            raise LookupError(f"the rotation of the {self.rotation.kind} is {self.rotation.phase} without a candidate")
        return signer


@dataclass(frozen=True, slots=True)
class AllSeats:
    """Both rotations, and the signers that were left but may still be met."""

    ca: Seats
    signing_key: Seats
    left_authorities: tuple[Signer, ...]
    left_keys: tuple[Signer, ...]

    @property
    def versions(self) -> tuple[int, int]:
        """What changes with each step."""
        return self.ca.rotation.version, self.signing_key.rotation.version

    def of(self, kind: SignerKind) -> Seats:
        """The rotation of a kind."""
        return self.ca if kind is SignerKind.CA else self.signing_key

    @property
    def roots(self) -> tuple[x509.Certificate, ...]:
        """Every trusted root."""
        return tuple(certificates_of(signer).root for signer in self.ca.trusted)

    @property
    def left_roots(self) -> tuple[x509.Certificate, ...]:
        """Roots that were left and may have certificates that live."""
        return tuple(certificates_of(signer).root for signer in self.left_authorities)

    @property
    def token_keys(self) -> tuple[TokenKey, ...]:
        """Every trusted token key."""
        return tuple(read_token_key(signer.form) for signer in self.signing_key.trusted)

    @property
    def forgotten_authorities(self) -> tuple[Signer, ...]:
        """Of the authorities that were left those that another database has trusted, whose keys are not here."""
        return tuple(signer for signer in self.left_authorities if not signer.key_names)

    def retirement(self, renew_within_seconds: int) -> Retirement:
        """What the trust document says about signers that are to be left, and that were left."""
        roots, keys = _ids(self.ca.retiring), _ids(self.signing_key.retiring)
        left = frozenset(signer.signer_id for signer in self.left_keys)
        if not (roots or keys or left):
            return Retirement()
        return Retirement(roots, keys, left, renew_within_seconds)


async def read_seats(session: AsyncSession, now: float) -> AllSeats:
    """Read who sits where.

    Raises:
        LookupError: there are no signers yet, or a row contradicts the table of phases.
    """
    since_ms = int((now - LONGEST_STANDING_SECONDS) * 1000)
    ca, key = SignerKind.CA.value, SignerKind.SIGNING_KEY.value
    return AllSeats(
        ca=await _seats(session, ca),
        signing_key=await _seats(session, key),
        left_authorities=tuple(await signers.left_since(session, ca, since_ms, most=6)),
        left_keys=tuple(await signers.left_since(session, key, since_ms, most=MAX_TOKEN_KEYS)),
    )


def certificates_of(signer: Signer) -> AuthorityCertificates:
    """The certificates of an authority's row."""
    return AuthorityCertificates.from_document(signer.form)


async def _seats(session: AsyncSession, kind: str) -> Seats:
    rotation = await rotations.find(session, kind)
    if rotation is None:
        raise LookupError(f"there is no {kind} yet")
    incumbent = await signers.find(session, rotation.incumbent_id)
    candidate = await signers.find(session, rotation.candidate_id) if rotation.candidate_id is not None else None
    if incumbent is None or (candidate is None) != (Phase(rotation.phase) is Phase.STEADY):
        raise LookupError(
            f"the rotation of the {kind} is {rotation.phase}, and its signers are not those of that phase"
        )
    return Seats(rotation, incumbent, candidate)


def _ids(signer: Signer | None) -> frozenset[str]:
    return frozenset() if signer is None else frozenset({signer.signer_id})
