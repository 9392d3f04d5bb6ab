"""What is open under which token, so that a revocation can cut it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from certs.tokens import TokenClaims


class Cuttable(Protocol):
    """Something open that can be broken off."""

    def cut(self) -> None:
        """Break it off at once."""
        ...


class CallerWatch:
    """The open exchanges with the claims that admitted them. Expiry cuts nothing; revocation does."""

    def __init__(self) -> None:
        self._open: dict[Cuttable, TokenClaims] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, exchange: Cuttable, claims: TokenClaims) -> None:
        """Watch an exchange."""
        self._open[exchange] = claims

    def discard(self, exchange: Cuttable) -> None:
        """Watch it no more."""
        self._open.pop(exchange, None)

    @contextmanager
    def held(self, claims: TokenClaims, exchange: Cuttable) -> Iterator[None]:
        """Watch an exchange for the time of the block."""
        self.add(exchange, claims)
        try:
            yield
        finally:
            self.discard(exchange)

    def cut_revoked(self, is_revoked: Callable[[TokenClaims], bool]) -> int:
        """Break off what stands on revoked claims; return how many that were."""
        revoked = [exchange for exchange, claims in self._open.items() if is_revoked(claims)]
        for exchange in revoked:
            self.discard(exchange)
            exchange.cut()
        return len(revoked)

    def cut_all(self) -> None:
        """Break everything off."""
        self.cut_revoked(lambda claims: True)
