"""Who is using which credential now: the ledger by which a revocation finds what it must cut."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from relay.trust.credentials import Credential, Refusal
from relay.trust.use_kinds import UseKind
from trunkline.channel.outcomes import Outcome


class Cuttable(Protocol):
    """Something that stands on a credential: a link, a call, a raw stream."""

    @property
    def kind(self) -> UseKind:
        """What it is at this moment: a call may have become a raw stream."""
        ...

    @property
    def towards(self) -> tuple[str, str] | None:
        """The ids of the node and the workspace that it reaches, beside those that its credential names."""
        ...

    def cut(self, outcome: Outcome) -> None:
        """End at once, since the credential is no longer good; must not raise, and may end its use itself."""
        ...


class Cut(NamedTuple):
    """One use that was ended."""

    credential: Credential
    refusal: Refusal
    kind: UseKind


Judge = Callable[[Cuttable, Credential], Refusal | None]


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
        if user in self.open:
            del self.open[user]

    def cut(self, judge: Judge) -> list[Cut]:
        """Cut every use that `judge` refuses, and return what was cut.

        Everything is judged before anything is cut, and calls are cut before the links that carry them, so that each
        is counted as what it is.
        """
        refused = []
        for user, credential in self.open.items():
            refusal = judge(user, credential)
            if refusal is not None:
                refused.append((user, Cut(credential, refusal, user.kind)))
        refused.sort(key=lambda one: one[1].kind.is_link)
        cut = []
        for user, entry in refused:
            if self.open.pop(user, None) is not None:
                user.cut(entry.refusal.outcome)
                cut.append(entry)
        return cut
