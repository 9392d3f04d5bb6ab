"""The trust in force: what admission verifies tokens with and judges credentials by, renewed as documents arrive."""

from collections.abc import Collection

from certs.tokens import LEEWAY_SECONDS, TokenClaims, TokenError, TokenErrorCode, TokenKind, TokenVerifier
from certs.trust import TrustStore
from relay.trust.credentials import Refusal
from relay.trust.standing import Standing
from trunkline.channel.outcomes import Outcome
from trunkline.runtime.clock import Clock

STALE = Refusal(
    Outcome.STALE_TRUST, "this relay has not heard for too long which credentials are revoked; use another one"
)
_OUTCOMES = {TokenErrorCode.EXPIRED: Outcome.EXPIRED_TOKEN}


class TrustInForce:
    """The standing under the current trust document, and the verifier of tokens against its keys."""

    __slots__ = ("_clock", "_looked_at", "_store", "_verifier", "stale", "standing", "trust_domain")

    def __init__(self, store: TrustStore, clock: Clock, *, cache_entries: int) -> None:
        document = store.current
        if document is None:
            raise ValueError("there is no trust document")
        self.trust_domain = document.trust_domain
        self.stale = False
        self._store = store
        self._clock = clock
        self._verifier = TokenVerifier(store.keyring, document.trust_domain, cache_entries)
        self._looked_at = clock.now()
        self.standing = Standing(document, self._looked_at)

    def look(self, now: float) -> None:
        """Look anew at every grant where a lock has ended, or the clock was set back; `now` in seconds of the epoch.

        By a clock that was ahead a lock had ended that has not, and an assertion was made that is not valid yet. To be
        called once a second, which is how far the clock may be set back unseen.
        """
        if now >= self.standing.valid_until or now < self._looked_at:
            self.renew()
        self._looked_at = now

    def renew(self) -> Standing:
        """Take the store's document into force, and return how credentials stand under it."""
        document = self._store.current
        if document is not None:
            self.standing = Standing(document, self._clock.now())
        return self.standing

    def set_stale(self, stale: bool) -> None:
        """Admit nothing new while the trust is too old to be relied on; what is open stays open."""
        if stale != self.stale:
            self.stale = stale
            self.renew()  # a new standing, under which no earlier grant is good without being looked at again

    def verify(self, token: str, kinds: Collection[TokenKind], now: float) -> TokenClaims | Refusal:
        """Return the claims of a live token of one of these kinds, or the refusal to answer; revocation comes after."""
        try:
            return self._verifier.verify(token, kinds, now)
        except TokenError as error:
            return Refusal(_OUTCOMES.get(error.code, Outcome.BAD_TOKEN), str(error))

    @staticmethod
    def ends_at(claims: TokenClaims) -> float:
        """When a token is no longer accepted, the leeway for clocks included, in seconds since the epoch."""
        return claims.expires_at + LEEWAY_SECONDS
