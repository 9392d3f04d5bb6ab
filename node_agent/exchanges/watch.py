"""What is open under which token, so that a revocation can cut it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from certs.tokens import TokenClaims
from certs.trust import TrustVerdict


class Cuttable(Protocol):
    """Something open that can be broken off."""

    @property
    def is_stream(self) -> bool:
        """Whether it is a raw stream at this moment, not an exchange."""
        ...

    def cut(self) -> None:
        """Break it off at once."""
        ...


class Cut(NamedTuple):
    """One exchange, or raw stream, that was broken off, and why."""

    verdict: TrustVerdict
    is_stream: bool


Judge = Callable[[TokenClaims], TrustVerdict | None]


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

    def cut(self, judge: Judge) -> list[Cut]:
        """Break off what stands on claims that are no longer good; return what that was."""
        judged = [(exchange, judge(claims)) for exchange, claims in self._open.items()]
        cut = [(exchange, Cut(verdict, exchange.is_stream)) for exchange, verdict in judged if verdict is not None]
        for exchange, _ in cut:
            self.discard(exchange)
            exchange.cut()
        return [entry for _, entry in cut]
