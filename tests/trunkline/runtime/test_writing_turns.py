"""Writing to many connections at once, by turns of the loop."""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from trunkline.runtime.loop import run
from trunkline.runtime.writing_turns import TURN_SECONDS, WritingTurns


def test_what_can_be_read_does_not_wait_for_all_that_can_be_written_to():
    done: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        all_done = loop.create_future()
        writers = [socket.socketpair() for _ in range(10)]
        sender, reader = socket.socketpair()

        def write(connection: socket.socket) -> None:
            if not done:
                sender.send(b"call")
            loop.remove_writer(connection)
            until = time.perf_counter() + TURN_SECONDS
            while time.perf_counter() < until:
                pass
            written("answer")

        def read() -> None:
            loop.remove_reader(reader)
            reader.recv(100)
            written("call")

        def written(what: str) -> None:
            done.append(what)
            if len(done) == len(writers) + 1:
                all_done.set_result(None)

        loop.add_reader(reader, read)
        for connection, _ in writers:
            loop.add_writer(connection, write, connection)
        await all_done
        for end in (sender, reader, *(end for pair in writers for end in pair)):
            end.close()

    run(main, event_loop="auto")
    assert done.index("call") <= 3


class HandDriven:
    """A loop's watching of descriptors, and a clock, that a test drives."""

    def __init__(self) -> None:
        self.now = 0.0
        self.written: list[int] = []
        self._watched: dict[int, tuple[Callable[..., object], tuple[Any, ...]]] = {}
        self._soon: list[Callable[[], object]] = []
        self.turns = WritingTurns(self, clock=lambda: self.now)  # type: ignore[arg-type]

    def add_writer(self, descriptor: int, callback: Callable[..., object], *arguments: Any) -> None:
        self._watched[descriptor] = (callback, arguments)

    def remove_writer(self, descriptor: int) -> bool:
        return self._watched.pop(descriptor, None) is not None

    def call_soon(self, callback: Callable[[], object]) -> None:
        self._soon.append(callback)

    def watch(self, descriptor: int, seconds: float, *, once: bool = True) -> None:
        """Have so many seconds spent on it whenever it can be written to."""

        def write() -> None:
            self.written.append(descriptor)
            self.now += seconds
            if once:
                self.turns.remove_writer(descriptor)

        self.turns.add_writer(descriptor, write)

    def written_anew(self, descriptor: int) -> None:
        """Another callback than that of `watch`."""
        self.written.append(-descriptor)
        self.turns.remove_writer(descriptor)

    def turn(self) -> list[int]:
        """A turn of the loop in which all that are watched can be written to; returns those that were."""
        self.written = []
        soon, self._soon = self._soon, []
        for callback in soon:
            callback()
        for descriptor in list(self._watched):
            if descriptor in self._watched:
                callback, arguments = self._watched[descriptor]
                callback(*arguments)
        return self.written


def test_each_that_takes_long_has_a_turn_of_its_own_in_order():
    loop = HandDriven()
    for descriptor in range(4):
        loop.watch(descriptor, TURN_SECONDS)
    assert [loop.turn() for _ in range(5)] == [[0], [1], [2], [3], []]


def test_those_that_take_little_share_a_turn():
    loop = HandDriven()
    for descriptor in range(8):
        loop.watch(descriptor, TURN_SECONDS / 2.5)
    assert [loop.turn() for _ in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_whoever_has_more_to_write_comes_behind_those_who_wait():
    loop = HandDriven()
    loop.watch(0, TURN_SECONDS, once=False)
    loop.watch(1, TURN_SECONDS)
    loop.watch(2, TURN_SECONDS)
    assert [loop.turn() for _ in range(5)] == [[0], [1], [2], [0], [0]]


def test_whoever_is_left_over_and_not_to_be_watched_any_more_has_no_turn():
    loop = HandDriven()
    for descriptor in range(3):
        loop.watch(descriptor, TURN_SECONDS)
    assert loop.turn() == [0]
    assert loop.turns.remove_writer(1)
    assert not loop.turns.remove_writer(1)
    assert [loop.turn() for _ in range(2)] == [[2], []]


def test_whoever_is_watched_anew_while_he_is_left_over_is_written_to_as_was_said_last():
    loop = HandDriven()
    for descriptor in range(3):
        loop.watch(descriptor, TURN_SECONDS)
    assert loop.turn() == [0]
    loop.turns.add_writer(1, loop.written_anew, 1)
    assert [loop.turn() for _ in range(3)] == [[2], [-1], []]


def test_one_that_fails_keeps_nobody_else_from_having_a_turn():
    loop = HandDriven()

    def fail() -> None:
        loop.turns.remove_writer(1)
        raise OSError("no route")

    loop.watch(0, TURN_SECONDS)
    loop.turns.add_writer(1, fail)
    loop.watch(2, TURN_SECONDS)
    assert loop.turn() == [0]
    with pytest.raises(OSError, match="no route"):
        loop.turn()
    assert [loop.turn() for _ in range(2)] == [[2], []]
