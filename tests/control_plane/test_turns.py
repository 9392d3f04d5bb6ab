"""Turns: a bounded number for each node, the others in order, and nobody is forgotten or named twice."""

from control_plane.turns import Turns


def test_so_many_of_a_node_and_as_many_of_another() -> None:
    turns = Turns[str](2)
    assert [turns.begin("a", key) for key in ("1", "2", "3")] == [True, True, False]
    assert turns.begin("b", "4")
    assert turns.end("b") is None, "nothing of that node waits"


def test_the_longest_waiting_one_is_next() -> None:
    turns = Turns[str](1)
    assert turns.begin("a", "1")
    assert not any(turns.begin("a", key) for key in ("2", "3", "2"))
    assert turns.end("a") == "2"
    assert turns.begin("a", "2")
    assert turns.end("a") == "3"
    assert turns.begin("a", "3")
    assert turns.end("a") is None


def test_one_that_came_again_by_itself_no_longer_waits() -> None:
    turns = Turns[str](2)
    assert [turns.begin("a", key) for key in ("1", "2", "3", "4")] == [True, True, False, False]
    assert turns.end("a") == "3"
    assert turns.begin("a", "4"), "it was quicker, and had been waiting too"
    assert not turns.begin("a", "3")
    assert turns.end("a") == "3"
    assert turns.end("a") is None
    assert turns.begin("a", "5")
    assert turns.begin("a", "6")
