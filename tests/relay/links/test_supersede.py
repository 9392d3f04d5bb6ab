import pytest

from relay.links.supersede import Incumbent, Verdict, judge


def test_the_first_link_is_admitted():
    assert judge(None, "a", 0) is Verdict.ADMIT


@pytest.mark.parametrize(
    ("incumbent", "instance", "sequence", "verdict"),
    [
        (Incumbent("a", 5, gone=False), "a", 6, Verdict.SUPERSEDE),
        (Incumbent("a", 5, gone=False), "a", 5, Verdict.STALE),
        (Incumbent("a", 5, gone=False), "a", 4, Verdict.STALE),
        (Incumbent("a", 5, gone=True), "a", 6, Verdict.ADMIT),
        (Incumbent("a", 5, gone=True), "a", 5, Verdict.STALE),
        (Incumbent("a", 5, gone=True), "a", 4, Verdict.STALE),
        (Incumbent("a", 5, gone=False), "b", 6, Verdict.CHALLENGE),
        (Incumbent("a", 5, gone=False), "b", 1, Verdict.CHALLENGE),
        (Incumbent("a", 5, gone=True), "b", 1, Verdict.ADMIT),
        (Incumbent("a", 5, gone=True), "b", 9, Verdict.ADMIT),
    ],
)
def test_every_case(incumbent, instance, sequence, verdict):
    assert judge(incumbent, instance, sequence) is verdict
