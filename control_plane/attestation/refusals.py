"""Why a machine is not admitted: one closed set of outcomes, and the refusal that carries one."""

from enum import StrEnum

from certs.errors import TokenError, TokenErrorCode
from control_plane.errors import ApiError, ErrorCode

KEYS_RETRY_SECONDS = 60


class Outcome(StrEnum):
    """What came of an attestation; the values are metric labels."""

    ADMITTED = "admitted"
    REATTESTED = "reattested"
    REPEATED = "repeated"
    BAD_REQUEST = "bad_request"
    BAD_NONCE = "bad_nonce"
    BAD_EVIDENCE = "bad_evidence"
    NOT_ALLOWED = "not_allowed"
    DISAGREES = "disagrees"
    UNVERIFIABLE = "unverifiable"
    NO_POLICY = "no_policy"
    CLONE = "clone"
    WINDOW_CLOSED = "window_closed"
    APPROVAL_NEEDED = "approval_needed"
    DENIED = "denied"


class AttestationRefused(ApiError):  # noqa: N818 - an answer, not a mistake
    """A machine is not admitted; `outcome` says why in one word, the message what to do about it."""

    def __init__(
        self, outcome: Outcome, code: ErrorCode, message: str, *, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(code, message, retry_after_seconds=retry_after_seconds)
        self.outcome = outcome


def bad_evidence(message: str) -> AttestationRefused:
    """The evidence is not genuine, not fresh, or not for us."""
    return AttestationRefused(Outcome.BAD_EVIDENCE, ErrorCode.UNAUTHENTICATED, message)


def not_allowed(message: str) -> AttestationRefused:
    """The evidence speaks of somebody who is on no allow-list of the settings."""
    return AttestationRefused(Outcome.NOT_ALLOWED, ErrorCode.PERMISSION_DENIED, message)


def disagrees(message: str) -> AttestationRefused:
    """Two genuine parts of the evidence do not speak of one machine."""
    return AttestationRefused(Outcome.DISAGREES, ErrorCode.UNAUTHENTICATED, message)


def unverifiable(message: str) -> AttestationRefused:
    """The evidence may be good, but whoever could tell does not answer."""
    return AttestationRefused(
        Outcome.UNVERIFIABLE, ErrorCode.TEMPORARILY_UNAVAILABLE, message, retry_after_seconds=KEYS_RETRY_SECONDS
    )


def refused_token(what: str, error: TokenError) -> AttestationRefused:
    """The refusal of a platform's token."""
    make = not_allowed if error.code in (TokenErrorCode.WRONG_ISSUER, TokenErrorCode.BAD_CLAIMS) else bad_evidence
    return make(f"{what} is refused: {error}")
