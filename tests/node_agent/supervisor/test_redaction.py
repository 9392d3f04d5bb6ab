"""Redaction: nothing of a secret passes, however the output is cut; and nothing else is touched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.supervisor.redaction import BLOCK_BYTES, MASK, MOST_PATTERNS, Redactor, _occurrences, patterns_of

SMALL = st.binary(min_size=0, max_size=40).map(lambda raw: bytes(b"ab\n"[byte % 3] for byte in raw))
PATTERNS = st.lists(SMALL.filter(bool), min_size=1, max_size=4)


def redacted(patterns, *chunks: bytes) -> bytes:
    redactor = Redactor(patterns)
    return b"".join([*(redactor.feed(chunk) for chunk in chunks), redactor.finish()])


@given(patterns=PATTERNS, content=st.lists(SMALL, max_size=8))
def test_any_cut_gives_the_same(patterns, content):
    whole = b"".join(content)
    assert redacted(patterns, *content) == redacted(patterns, whole)
    assert redacted(patterns, *(whole[n : n + 1] for n in range(len(whole)))) == redacted(patterns, whole)


@given(patterns=PATTERNS, content=SMALL)
def test_no_occurrence_passes_and_no_other_byte_is_lost(patterns, content):
    covered = [False] * len(content)
    for pattern in patterns:
        for start in range(len(content)):
            if content.startswith(pattern, start):
                covered[start : start + len(pattern)] = [True] * len(pattern)
    kept = bytes(byte for byte, hidden in zip(content, covered, strict=True) if not hidden)
    assert redacted(patterns, content).replace(MASK, b"") == kept


@pytest.mark.parametrize(
    ("patterns", "content", "expected"),
    [
        ([b"hunter2"], b"pw=hunter2\n", b"pw=[redacted]\n"),
        ([b"hunter2"], b"hunter2hunter2", b"[redacted][redacted]"),
        ([b"hunter2"], b"hunter", b"hunter"),
        ([b"abab"], b"xabababy", b"x[redacted]y"),
        ([b"abc", b"abcdef"], b"abcdef.abc", b"[redacted].[redacted]"),
        ([b"xyab", b"abzz"], b"-xyabzz-", b"-[redacted]-"),
        ([], b"anything", b"anything"),
    ],
)
def test_what_is_masked(patterns, content, expected):
    assert redacted(patterns, content) == expected


def test_patterns_that_occur_at_every_byte_are_found_in_few_steps():
    rows = [character * length for character in (b"-", b"=-") for length in range(4, 4 + MOST_PATTERNS // 2)]
    assert redacted(rows, b"-" * 300_000, b"\n", b"=-" * 150_000) == MASK + b"\n" + MASK
    assert all(len(Redactor([row])._places(b"-" * 65536)) <= 1 for row in rows)


@given(
    patterns=st.lists(st.builds(lambda one, n, end: (one * n + end)[:30], SMALL, st.integers(1, 9), SMALL), max_size=3),
    content=st.lists(st.builds(lambda one, n: one * n, SMALL, st.integers(0, 9)), max_size=4).map(b"".join),
)
def test_every_occurrence_of_what_repeats_itself_is_covered(patterns, content):
    for pattern in filter(None, patterns):
        covered = {
            place
            for start in range(len(content))
            if content.startswith(pattern, start)
            for place in range(start, start + len(pattern))
        }
        assert {place for start, stop in _occurrences(content, pattern) for place in range(start, stop)} == covered


def test_only_what_could_be_a_beginning_is_held_back():
    redactor = Redactor([b"hunter2"])
    assert redactor.feed(b"name: hun") == b"name: "
    assert redactor.feed(b"gry\n") == b"hungry\n"
    assert redactor.feed(b"hunter") == b""
    assert redactor.feed(b"2!") == b"[redacted]!"


def test_what_is_looked_for():
    pem = b"-----BEGIN-----\nMIIB\nabc\n-----END-----\n"
    assert patterns_of([b"hunter2\n", b"abc", pem]) == (
        b"hunter2",
        pem.rstrip(b"\n"),
        b"-----BEGIN-----",
        b"MIIB",
        b"-----END-----",
    )


def test_long_values_are_looked_for_in_blocks_and_lines_have_a_bound():
    long = bytes(range(1, 256)) * 50
    patterns = patterns_of([long])
    assert max(map(len, patterns)) == BLOCK_BYTES
    assert long not in redacted(patterns, b"x" + long + b"y")
    assert redacted(patterns, b"x" + long + b"y").replace(MASK, b"") == b"xy"
    many = b"\n".join(b"line %d" % number for number in range(1000))
    assert len(patterns_of([many])) == MOST_PATTERNS
