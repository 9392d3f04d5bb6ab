"""The terms of a link: what an offer and an answer agree on, and which fields are refused."""

import pytest

from trunkline.channel.errors import HandshakeFailed
from trunkline.channel.terms import OWN_TERMS, PLAIN_YAMUX, LinkTerms, agree, check_answer, read_terms, write_terms


def fields_of(terms):
    return {name.lower(): value for name, value in write_terms(terms)}


def test_our_own_ends_agree_on_everything():
    assert agree(OWN_TERMS) == OWN_TERMS
    assert OWN_TERMS.compact
    assert OWN_TERMS.initial_window_bytes == 65_536


def test_a_plain_peer_gets_plain_yamux():
    agreed = agree(PLAIN_YAMUX)
    assert agreed == PLAIN_YAMUX
    assert agreed.initial_window_bytes == 262_144
    assert not agreed.compact
    assert write_terms(agreed) == []


def test_the_smaller_window_counts():
    assert agree(LinkTerms(1, frozenset(), 131_072)).window_bytes == 65_536
    assert agree(LinkTerms(1, frozenset(), 16_384)).window_bytes == 16_384


def test_a_window_that_one_end_does_not_state_stays_yamux_own():
    assert agree(LinkTerms(1, frozenset({"compact"}), None)).initial_window_bytes == 262_144


def test_unknown_features_and_later_versions_are_not_agreed():
    assert agree(LinkTerms(7, frozenset({"compact", "teleport"}), None)) == LinkTerms(1, frozenset({"compact"}), None)


@pytest.mark.parametrize("terms", [OWN_TERMS, PLAIN_YAMUX, LinkTerms(1), LinkTerms(1, frozenset({"a", "b"}), 1024)])
def test_what_is_written_is_read_back(terms):
    assert read_terms(fields_of(terms)) == terms


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"trunkline-version", b"0"),
        (b"trunkline-version", b"-1"),
        (b"trunkline-version", b"1.0"),
        (b"trunkline-version", b"256"),
        (b"trunkline-version", b"\xb2"),
        (b"trunkline-window", b"0"),
        (b"trunkline-window", b"1023"),
        (b"trunkline-window", b"16777217"),
        (b"trunkline-window", b"9" * 400),
        (b"trunkline-features", b"compact,,"),
        (b"trunkline-features", b"Compact"),
        (b"trunkline-features", b", ".join(b"f%d" % n for n in range(17))),
    ],
)
def test_malformed_terms_are_refused(name, value):
    with pytest.raises(HandshakeFailed):
        read_terms({b"trunkline-version": b"1", name: value})


def test_features_need_a_version():
    with pytest.raises(HandshakeFailed, match="without Trunkline-Version"):
        read_terms({b"trunkline-features": b"compact"})


@pytest.mark.parametrize(
    "answer",
    [LinkTerms(2), LinkTerms(1, frozenset({"teleport"})), LinkTerms(1, frozenset(), 131_072)],
    ids=["version", "feature", "window"],
)
def test_an_answer_beyond_the_offer_is_refused(answer):
    with pytest.raises(HandshakeFailed, match="not offered"):
        check_answer(OWN_TERMS, answer)


def test_an_answer_to_a_plain_offer_must_be_plain():
    with pytest.raises(HandshakeFailed):
        check_answer(PLAIN_YAMUX, OWN_TERMS)
    assert check_answer(OWN_TERMS, PLAIN_YAMUX) == PLAIN_YAMUX
