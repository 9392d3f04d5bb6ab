"""Who is using which credential now: the ledger by which a revocation finds what it must cut."""

from collections.abc import Callable
from typing import Protocol

from relay.credentials import Credential, Refusal
from trunkline.channel.outcomes import Outcome


class Cuttable(Protocol):
    """Something that stands on a credential: a link, a call, a raw stream."""

    def cut(self, outcome: Outcome) -> None:
        """End at once, since the credential is no longer good; must not raise, and may end its use itself."""
        ...


class Uses:
    """Every open use with its credential. The data path pays one dictionary entry for each call."""

    __slots__ = ("open",)

    def __init__(self) -> None:
        self.open: dict[Cuttable, Credential] = {}

    def begin(self, user: Cuttable, credential: Credential) -> None:
        """Note that `user` now stands on `credential`, in place of what it stood on before."""
        self.open[user] = credential

    def end(self, user: Cuttable) -> None:
        """Note that `user` has ended."""
        self.open.pop(user, None)

    def cut(self, judge: Callable[[Credential], Refusal | None]) -> list[tuple[Credential, Refusal]]:
        """Cut every use whose credential `judge` refuses, and return what was cut."""
        cut = []
        verdicts: dict[Credential, Refusal | None] = {}
        for user, credential in list(self.open.items()):
            if credential not in verdicts:
                verdicts[credential] = judge(credential)
            refusal = verdicts[credential]
            if refusal is not None and self.open.pop(user, None) is not None:
                user.cut(refusal.outcome)
                cut.append((credential, refusal))
        return cut
