import asyncio

from tests.support.virtual_time import in_virtual_time
from trunkline.channel.closing import (
    GOODBYE_BYTES,
    GOODBYE_SECONDS,
    LONGEST_LOOK_SECONDS,
    LONGEST_SECONDS,
    TAKING_SECONDS,
    Closing,
)

MUCH = 100 * GOODBYE_BYTES


class Transport(asyncio.Transport):
    """Holds bytes, some of them encrypted already, as the fast loop's do."""

    def __init__(self, plain_bytes: int, encrypted_bytes: int) -> None:
        super().__init__()
        self.plain_bytes, self.encrypted_bytes = plain_bytes, encrypted_bytes
        self.asked: list[str] = []

    def get_write_buffer_size(self) -> int:
        return self.plain_bytes

    def get_local_write_buffer_size(self) -> int:
        return self.plain_bytes + self.encrypted_bytes

    def close(self) -> None:
        self.asked.append("close")

    def abort(self) -> None:
        self.asked.append("abort")


def closing(plain_bytes: int, encrypted_bytes: int) -> tuple[Transport, Closing]:
    transport = Transport(plain_bytes, encrypted_bytes)
    ending = Closing(transport, asyncio.get_running_loop())
    ending.begin()
    return transport, ending


@in_virtual_time
async def test_what_is_taken_is_closed_at_once_and_aborted_without_a_goodbye():
    transport, ending = closing(0, 0)
    assert transport.asked == ["close"]
    await asyncio.sleep(GOODBYE_SECONDS + 1)
    assert transport.asked == ["close", "abort"]
    assert not ending.cut, "nothing that was written is lost"


@in_virtual_time
async def test_a_peer_that_takes_something_now_and_then_gets_everything():
    transport, ending = closing(0, 3 * MUCH)
    while transport.encrypted_bytes:
        await asyncio.sleep(TAKING_SECONDS - 1)
        assert transport.asked == []
        transport.encrypted_bytes -= MUCH
    await asyncio.sleep(LONGEST_LOOK_SECONDS)
    assert transport.asked == ["close"]
    ending.end()
    await asyncio.sleep(GOODBYE_SECONDS + 1)
    assert transport.asked == ["close"]


@in_virtual_time
async def test_it_closes_soon_after_the_last_byte():
    transport, ending = closing(MUCH, MUCH)
    await asyncio.sleep(0.001)
    transport.plain_bytes = transport.encrypted_bytes = 0
    await asyncio.sleep(0.002)
    assert transport.asked == ["close"]
    ending.end()


@in_virtual_time
async def test_a_peer_that_takes_nothing_is_given_up():
    transport, ending = closing(0, MUCH)
    await asyncio.sleep(TAKING_SECONDS + 1)
    assert transport.asked == ["abort"]
    assert ending.cut


@in_virtual_time
async def test_nobody_waits_long_for_a_goodbye_to_be_taken():
    transport, ending = closing(0, GOODBYE_BYTES)
    await asyncio.sleep(GOODBYE_SECONDS + 1)
    assert transport.asked == ["abort"]
    assert ending.cut


@in_virtual_time
async def test_a_peer_that_takes_a_byte_now_and_then_is_given_up_in_the_end():
    transport, ending = closing(0, MUCH)
    for _ in range(round(LONGEST_SECONDS) + 1):
        await asyncio.sleep(1)
        transport.encrypted_bytes -= 1
    assert transport.asked == ["abort"]
    assert ending.cut
