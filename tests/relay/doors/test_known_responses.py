"""That a response is known by all the bytes of its head, and by nothing else."""

import pytest

from relay.doors.known_responses import KnownResponses
from tests.relay.doors.test_forwarding import answered

RAW = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
OTHER = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"


@pytest.mark.parametrize("behind", [b"", b"hello", b"\r\n\r\n"])
def test_a_head_is_known_with_whatever_is_behind_it(behind: bytes) -> None:
    known, response, other = KnownResponses(), answered(), answered()
    known.keep(RAW, response)
    known.keep(OTHER, other)
    for _ in range(2):
        assert known.find(RAW + behind) is response
        assert known.find(OTHER + behind) is other
    assert (response.raw, other.raw) == (RAW, OTHER)


@pytest.mark.parametrize("data", [b"", RAW[:-1], RAW[:-2] + b"A: b\r\n\r\n", RAW[1:], RAW.lower(), b"\r\n\r\n"])
def test_nothing_else_is_known(data: bytes) -> None:
    known = KnownResponses()
    assert known.find(data) is None
    known.keep(RAW, answered())
    assert known.find(RAW) is not None
    assert known.find(data) is None


def test_what_is_in_use_outlives_ageing_and_the_rest_does_not() -> None:
    known, response = KnownResponses(), answered()
    known.keep(RAW, response)
    known.keep(OTHER, answered())
    for _ in range(3):
        assert known.find(RAW) is response
        known.age()
    assert known.find(RAW) is response
    assert known.find(OTHER) is None


def test_the_newest_that_was_made_of_a_head_is_the_one_that_counts() -> None:
    known, newer = KnownResponses(), answered()
    known.keep(RAW, answered())
    assert known.find(RAW) is not newer
    known.keep(RAW, newer)
    assert known.find(RAW) is newer
