"""Who is sent a trust document when, of many listeners."""

import asyncio
import json
from collections.abc import Callable
from typing import cast

import pytest

from relay.links import trust_pushes
from relay.links.listeners import Listener
from relay.links.trust_pushes import BYTES_IN_A_TURN, FIRST_BYTES, MOST_IN_A_TURN, PATIENCE_SECONDS, TrustPushes
from tests.support.virtual_time import in_virtual_time


class Reader:
    """A listener that takes a document for as long as the test likes."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.finished: Callable[[str], None] = lambda result: None

    def push_trust(self, notice: bytes, finished: Callable[[str], None]) -> None:
        self.sent.append(notice)
        self.finished = finished

    @property
    def documents(self) -> list[str]:
        return [json.loads(notice.partition(b"\r\n\r\n")[2])["trust_document"] for notice in self.sent]


class Fixture:
    def __init__(self) -> None:
        self.ended: list[tuple[str, str]] = []
        self.pushes = TrustPushes(lambda kind, result: self.ended.append((kind, result)))

    def publish(self, document: str, *readers: Reader) -> None:
        self.pushes.publish(document, [cast(Listener, reader) for reader in readers])

    def add(self, reader: Reader) -> None:
        self.pushes.add(cast(Listener, reader))

    def discard(self, reader: Reader) -> None:
        self.pushes.discard(cast(Listener, reader))


@pytest.fixture
async def relay() -> Fixture:
    return Fixture()


def begun(readers: list[Reader]) -> int:
    return sum(len(reader.sent) for reader in readers)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_all_are_sent_the_same_bytes(relay: Fixture):
    readers = [Reader() for _ in range(3)]
    relay.publish("jws", *readers[:2])
    relay.add(readers[2])
    await turns(1)
    assert [reader.documents for reader in readers] == [["jws"]] * 3
    assert len({id(reader.sent[0]) for reader in readers}) == 1
    readers[0].finished("accepted")
    assert relay.ended == [("trust_document", "accepted")]


async def test_who_comes_before_there_is_a_document_is_sent_nothing(relay: Fixture):
    reader = Reader()
    relay.add(reader)
    await turns(2)
    assert reader.sent == []


@pytest.mark.parametrize(
    ("size_bytes", "most"), [(10, MOST_IN_A_TURN), (FIRST_BYTES * 10, BYTES_IN_A_TURN // FIRST_BYTES)]
)
async def test_a_few_begin_in_a_turn(relay: Fixture, size_bytes: int, most: int):
    readers = [Reader() for _ in range(3 * most)]
    relay.publish("x" * size_bytes, *readers)
    for turn in range(1, 4):
        await turns(1)
        assert begun(readers) == turn * most


@in_virtual_time
async def test_so_many_are_under_way_and_who_stands_still_holds_up_nobody_for_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trust_pushes, "MOST_UNDER_WAY", 3)
    relay, readers = Fixture(), [Reader() for _ in range(9)]
    relay.publish("jws", *readers)
    await turns(4)
    assert begun(readers) == 3
    readers[1].finished("accepted")
    await turns(4)
    assert begun(readers) == 4
    await asyncio.sleep(PATIENCE_SECONDS * 1.5)
    assert begun(readers) == 7
    await asyncio.sleep(PATIENCE_SECONDS)
    assert begun(readers) == 9


async def test_who_has_gone_is_sent_nothing(relay: Fixture):
    staying, gone = Reader(), Reader()
    relay.publish("jws", gone, staying)
    relay.discard(gone)
    await turns(1)
    assert (len(staying.sent), len(gone.sent)) == (1, 0)


@pytest.mark.parametrize("result", ["accepted", "refused", "silent", "lost"])
async def test_only_the_newest_follows_one_that_is_on_its_way(relay: Fixture, result: str):
    reader = Reader()
    for number in range(3):
        relay.publish(f"jws-{number}", reader)
        await turns(2)
    assert reader.documents == ["jws-0"]
    reader.finished(result)
    await turns(2)
    assert reader.documents == ["jws-0", "jws-2"]
    reader.finished(result)
    await turns(2)
    assert reader.documents == ["jws-0", "jws-2"]
