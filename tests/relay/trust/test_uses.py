import pytest

from relay.trust.credentials import Credential, Refusal
from relay.trust.use_kinds import UseKind
from relay.trust.uses import Cut, Uses
from trunkline.channel.outcomes import Outcome

REVOKED = Refusal(Outcome.REVOKED, "the token is revoked")


class Call:
    towards = None

    def __init__(self, uses: Uses, kind: UseKind = UseKind.EXCHANGE) -> None:
        self.uses = uses
        self.kind = kind
        self.cuts: list[Outcome] = []

    def cut(self, outcome: Outcome) -> None:
        self.cuts.append(outcome)
        self.uses.end(self)


def credential(subject: str) -> Credential:
    return Credential(None, subject=subject, ends_at=0.0)


def test_only_the_uses_of_what_is_refused_are_cut():
    uses = Uses()
    good, bad = credential("good"), credential("bad")
    calls = [Call(uses, kind) for kind in (UseKind.EXCHANGE, UseKind.EXCHANGE, UseKind.STREAM, UseKind.LISTENER)]
    for call, used in zip(calls, [good, bad, bad, good], strict=True):
        uses.begin(call, used)
    cut = uses.cut(lambda _, one: REVOKED if one is bad else None)
    assert cut == [Cut(bad, REVOKED, UseKind.EXCHANGE), Cut(bad, REVOKED, UseKind.STREAM)]
    assert [call.cuts for call in calls] == [[], [Outcome.REVOKED], [Outcome.REVOKED], []]
    assert set(uses.open) == {calls[0], calls[3]}


@pytest.mark.parametrize("kind", [UseKind.LISTENER, UseKind.SENDER])
def test_calls_are_cut_and_counted_before_the_link_that_carries_them(kind: UseKind):
    uses = Uses()
    bad = credential("bad")
    call = Call(uses, UseKind.STREAM)

    class Link(Call):
        def cut(self, outcome: Outcome) -> None:
            super().cut(outcome)
            self.uses.end(call)

    uses.begin(Link(uses, kind), bad)
    uses.begin(call, bad)
    assert [entry.kind for entry in uses.cut(lambda *_: REVOKED)] == [UseKind.STREAM, kind]
    assert call.cuts == [Outcome.REVOKED]


def test_a_use_that_ends_while_others_are_cut_is_not_cut():
    uses = Uses()
    bad = credential("bad")
    second = Call(uses)

    class Pair(Call):
        def cut(self, outcome: Outcome) -> None:
            super().cut(outcome)
            self.uses.end(second)

    uses.begin(Pair(uses), bad)
    uses.begin(second, bad)
    assert len(uses.cut(lambda *_: REVOKED)) == 1
    assert second.cuts == []


def test_links_are_counted_as_links_whoever_opened_them():
    assert len(UseKind) == 4
    assert [kind.counted_as for kind in UseKind] == ["links", "links", "streams", "exchanges"]
