from dataclasses import dataclass

from relay.port.handshake_pace import HandshakePace
from relay.port.handshake_queue import HandshakeQueue
from trunkline.runtime.listening import Source


@dataclass(eq=False)
class Caller:
    """An arrival, as far as the queue looks at it."""

    source: Source
    accepted_at: float = 0.0
    begun_at: float = 0.0


def queue(
    max_handshakes: int = 4, max_per_source: int = 2, max_waiting: int = 10, per_second: int = 1_000_000
) -> HandshakeQueue[Caller]:
    return HandshakeQueue(
        max_handshakes=max_handshakes,
        max_per_source=max_per_source,
        max_waiting=max_waiting,
        pace=HandshakePace(per_second),
    )


def callers(source: str, count: int, accepted_at: float = 0.0) -> list[Caller]:
    return [Caller(source, accepted_at) for _ in range(count)]


def test_a_source_has_its_share_and_others_pass_it():
    turns = queue()
    greedy, other = callers("a", 4), Caller("b")
    assert [turns.enter(caller, 1.0) for caller in greedy] == [True, True, False, False]
    assert turns.enter(other, 1.0)
    assert list(turns.in_progress) == [*greedy[:2], other]
    assert (turns.waiting, len(turns), turns.room) == (2, 5, 1)


def test_who_waits_begins_in_order_when_one_of_its_source_is_done():
    turns = queue()
    first, second, third, fourth = callers("a", 4)
    for caller in (first, second, third, fourth):
        turns.enter(caller, 1.0)
    assert turns.next(2.0) is None
    turns.end(first)
    assert turns.next(2.0) is third
    assert third.begun_at == 2.0
    assert turns.next(2.0) is None
    turns.end(second)
    turns.end(third)
    assert turns.next(3.0) is fourth
    turns.end(fourth)
    assert len(turns) == 0


def test_who_comes_later_does_not_pass_those_of_its_source_that_wait():
    turns = queue()
    first, second, third = callers("a", 3)
    for caller in (first, second, third):
        turns.enter(caller, 0.0)
    turns.end(first)
    assert not turns.enter(Caller("a"), 0.0)
    assert turns.next(0.0) is third


def test_sources_have_turns():
    turns = queue(max_handshakes=4, max_per_source=2)
    a, b = callers("a", 4), callers("b", 4)
    for caller in a + b:
        turns.enter(caller, 0.0)
    assert turns.next(0.0) is None, "all handshakes that may be are in progress"
    for caller in (*a[:2], *b[:2]):
        turns.end(caller)
    assert [turns.next(0.0) for _ in range(5)] == [a[2], b[2], a[3], b[3], None]


def test_when_too_many_wait_the_longest_line_loses_its_newest():
    turns = queue(max_waiting=3)
    a, b = callers("a", 5), callers("b", 3)
    for caller in a:
        turns.enter(caller, 0.0)
    assert turns.surplus() is None
    for caller in b:
        turns.enter(caller, 0.0)
    assert turns.surplus() is a[4]
    assert turns.surplus() is None
    assert turns.waiting == 3


def test_those_that_wait_for_too_long_are_taken_out():
    turns = queue()
    early, late = callers("a", 3, accepted_at=1.0), callers("a", 1, accepted_at=2.0)
    for caller in early + late:
        turns.enter(caller, 2.0)
    assert turns.overdue(2.0) == [early[2]]
    assert turns.overdue(2.0) == []
    assert turns.drop_waiting() == late
    assert turns.waiting == 0
    assert list(turns.in_progress) == early[:2]


def test_the_slow_are_those_of_sources_of_which_others_wait():
    turns = queue(max_handshakes=6)
    a, b = callers("a", 2), callers("b", 1)
    turns.enter(b[0], 1.0)
    turns.enter(a[0], 2.0)
    turns.enter(a[1], 4.0)
    assert turns.slow(3.0, all_sources=False) == []
    turns.enter(Caller("a"), 4.0)
    assert turns.slow(3.0, all_sources=False) == [a[0]]
    assert turns.slow(3.0, all_sources=True) == [b[0], a[0]]
    assert list(turns.in_progress) == [*b, *a], "they are named, not taken out"


def test_a_source_that_completes_handshakes_is_spared():
    turns = queue(max_per_source=3)
    first, second, third, fourth = callers("a", 4)
    for caller in (first, second, third, fourth):
        turns.enter(caller, 1.0)
    turns.end(first, succeeded_at=5.0)
    assert turns.slow(4.0, all_sources=True) == []
    assert turns.slow(6.0, all_sources=True) == [second, third]
    turns.end(second)
    assert turns.slow(6.0, all_sources=True) == [third]


def test_beyond_the_pace_everybody_waits_and_sources_have_turns():
    turns = queue(max_handshakes=100, max_per_source=100, max_waiting=100, per_second=2)
    first, *crowd = callers("a", 5)
    assert turns.enter(first, 0.0)
    assert not any(turns.enter(caller, 0.0) for caller in crowd)
    other, late = Caller("b"), Caller("c")
    assert not turns.enter(other, 0.0)
    assert turns.paced
    assert turns.next(0.5) is None
    assert turns.next(1.0) is crowd[0]
    assert not turns.enter(late, 2.0), "who comes when a turn is due does not take it from those who wait"
    assert [turns.next(now) for now in (2.0, 3.0, 4.0)] == [other, crowd[1], late]
    assert [turns.next(now) for now in (5.0, 6.0)] == crowd[2:]
    assert not turns.paced
    assert turns.enter(Caller("d"), 7.0)


def test_one_that_has_gone_gives_its_turn_back():
    turns = queue(per_second=2)
    gone, waits = callers("a", 2)
    assert turns.enter(gone, 0.0)
    assert not turns.enter(waits, 0.0)
    turns.forgo(gone)
    assert turns.next(0.0) is waits


def test_waiting_for_an_own_share_is_not_waiting_for_the_pace():
    turns = queue(max_per_source=1)
    for caller in callers("a", 2):
        turns.enter(caller, 0.0)
    assert turns.waiting
    assert not turns.paced
    assert turns.enter(Caller("b"), 0.0)
