"""Who calls: the token on each stream, verified by the agent itself against the trust document it keeps."""

from collections.abc import Callable
from dataclasses import dataclass

from certs.errors import TokenError, TokenErrorCode
from certs.spiffe import SpiffeId
from certs.tokens import TokenClaims, TokenKind, TokenVerifier
from certs.trust import TrustVerdict
from trunkline.channel.outcomes import Outcome
from trunkline.runtime.clock import Clock

ACCEPTED = (TokenKind.CALL, TokenKind.ASSERTION)
_OUTCOME_OF_ERROR = {
    TokenErrorCode.WRONG_AUDIENCE: Outcome.WRONG_AUDIENCE,
    TokenErrorCode.EXPIRED: Outcome.EXPIRED_TOKEN,
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A stream is not admitted."""

    outcome: Outcome
    message: str


@dataclass(frozen=True, slots=True)
class Caller:
    """The party that opened a stream, as its token states it."""

    claims: TokenClaims

    @property
    def subject(self) -> str:
        """The token's `sub`."""
        return self.claims.subject

    @property
    def through_workspace(self) -> bool:
        """Whether a workspace token stands behind the call: only ports that the owner shares are open to it."""
        return self.claims.kind is TokenKind.ASSERTION


class Callers:
    """Decides who may call this node. Synchronous, and cheap for tokens that were seen before."""

    def __init__(
        self,
        node: SpiffeId,
        verifier: TokenVerifier,
        judge: Callable[[TokenClaims], TrustVerdict | None],
        clock: Clock,
    ) -> None:
        self._audience = str(node)
        self._verifier = verifier
        self._judge = judge
        self._clock = clock

    def admit(self, credentials: bytes | None) -> Caller | Refusal:
        """Verify the value of a Proxy-Authorization field: a call token or an assertion for this very node."""
        if credentials is None:
            return Refusal(Outcome.NO_TOKEN, "the stream carries no token")
        scheme, _, token = credentials.partition(b" ")
        if scheme.lower() != b"bearer" or not token:
            return Refusal(Outcome.BAD_TOKEN, "the credentials are not a bearer token")
        now = self._clock.now()
        try:
            claims = self._verifier.verify(token.decode("latin-1"), ACCEPTED, now, audience=self._audience)
        except TokenError as error:
            return Refusal(_OUTCOME_OF_ERROR.get(error.code, Outcome.BAD_TOKEN), str(error))
        return self._revoked(claims) or Caller(claims)

    def stale(self, caller: Caller) -> Refusal | None:
        """Why a caller that was admitted before may not begin another call now: its token has expired, or is revoked.

        A tunnel to the agent's API carries many calls under the token that opened it; each of them has to ask.
        """
        if not caller.claims.is_live(self._clock.now()):
            return Refusal(Outcome.EXPIRED_TOKEN, "the connection's token has expired: open another with a fresh one")
        return self._revoked(caller.claims)

    def _revoked(self, claims: TokenClaims) -> Refusal | None:
        verdict = self._judge(claims)
        if verdict is None:
            return None
        if verdict.locked:
            return Refusal(Outcome.LOCKED, f"the {verdict.kind} is locked")
        return Refusal(Outcome.REVOKED, "the token, or who issued or holds it, has been revoked")
