from relay.credentials import Credential, Refusal
from relay.uses import Uses
from trunkline.channel.outcomes import Outcome


class Call:
    def __init__(self, uses: Uses) -> None:
        self.uses = uses
        self.cuts: list[Outcome] = []

    def cut(self, outcome: Outcome) -> None:
        self.cuts.append(outcome)
        self.uses.end(self)


def credential(subject: str) -> Credential:
    return Credential(None, subject=subject, ends_at=0.0)


def test_only_the_uses_of_what_is_refused_are_cut():
    uses = Uses()
    good, bad = credential("good"), credential("bad")
    calls = [Call(uses) for _ in range(4)]
    for call, used in zip(calls, [good, bad, bad, good], strict=True):
        uses.begin(call, used)
    refusal = Refusal(Outcome.REVOKED, "the token is revoked")
    asked = []

    def judge(one: Credential) -> Refusal | None:
        asked.append(one)
        return refusal if one is bad else None

    assert uses.cut(judge) == [(bad, refusal), (bad, refusal)]
    assert [call.cuts for call in calls] == [[], [Outcome.REVOKED], [Outcome.REVOKED], []]
    assert len(asked) == 2
    assert set(uses.open) == {calls[0], calls[3]}


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
    assert len(uses.cut(lambda _: Refusal(Outcome.REVOKED, "revoked"))) == 1
    assert second.cuts == []
