import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from relay.workers import messages
from relay.workers.messages import Channel
from relay.workers.passing import End, hand_over, handed_in


class Party:
    def __init__(self) -> None:
        self.taken: list[tuple[str, dict[str, Any]]] = []
        self.lost = asyncio.Event()
        self.heard = asyncio.Event()
        self.channel = Channel(self.take, self.lost.set)

    def take(self, kind: str, members: dict[str, Any]) -> None:
        self.taken.append((kind, members))
        self.heard.set()


@asynccontextmanager
async def joined() -> AsyncIterator[tuple[Party, Party]]:
    parties = Party(), Party()
    for party, end in zip(parties, socket.socketpair(), strict=True):
        end.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda party=party: party.channel, sock=end)  # type: ignore[misc]
    try:
        yield parties
    finally:
        for party in parties:
            party.channel.close()
            await party.lost.wait()


async def test_messages_arrive_whole_and_in_order() -> None:
    async with joined() as (here, there):
        large = "x" * 3_000_000
        here.channel.send("one", text=large)
        here.channel.send("two", number=2)
        while len(there.taken) < 2:
            there.heard.clear()
            await there.heard.wait()
        assert there.taken == [("one", {"text": large}), ("two", {"number": 2})]


async def test_what_is_sent_before_the_end_arrives() -> None:
    async with joined() as (here, there):
        here.channel.send("last", text="x" * 1_000_000)
        await here.channel.flush(5)
        await there.lost.wait()
        assert [kind for kind, _ in there.taken] == ["last"]
        here.channel.send("late")


async def test_a_mistake_in_taking_a_message_ends_the_channel() -> None:
    async with joined() as (here, there):
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        there.channel._take = lambda kind, members: members["missing"]
        here.channel.send("one")
        await there.lost.wait()
        await here.lost.wait()


async def test_a_message_beyond_the_bound_ends_the_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MAX_MESSAGE_BYTES", 100)
    async with joined() as (here, there):
        here.channel.send("one", text="x" * 100)
        await there.lost.wait()
        assert there.taken == []


def test_the_first_message_is_read_from_a_socket_that_blocks() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:

        async def send() -> None:
            channel = Channel(lambda kind, members: None, lambda: None)
            ours.setblocking(False)
            await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=ours)
            channel.send("start", settings={"workers": 2})
            channel.send("next")
            await channel.flush(5)

        asyncio.run(send())
        assert Channel.read_first(theirs)["settings"] == {"workers": 2}
        assert b"next" in theirs.recv(1000)
        with pytest.raises(EOFError):
            Channel.read_first(theirs)


def test_ends_of_links_are_handed_over() -> None:
    passing, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with passing, theirs:
        theirs.setblocking(False)
        assert list(handed_in(theirs)) == []
        one, two = socket.socketpair()
        with one, two:
            hand_over(passing, End(2, True, one))
            hand_over(passing, End(3, False, two))
        found = list(handed_in(theirs))
        assert [(end.worker, end.client) for end in found] == [(2, True), (3, False)]
        for end in found:
            assert not end.socket.getblocking()
            end.socket.close()
        passing.close()
        with pytest.raises(EOFError):
            list(handed_in(theirs))
