import asyncio

from tests.support.virtual_time import in_virtual_time
from trunkline.channel.closing import LONGEST_LOOK_SECONDS, Closing, Patience

MUCH = 500_000
PATIENCE = Patience(taking_seconds=15.0, goodbye_seconds=5.0, longest_seconds=60.0, goodbye_bytes=4096)


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

    def is_closing(self) -> bool:
        return "close" in self.asked

    def close(self) -> None:
        self.asked.append("close")

    def abort(self) -> None:
        self.asked.append("abort")


def closing(plain_bytes: int, encrypted_bytes: int, patience: Patience = PATIENCE) -> tuple[Transport, Closing]:
    transport = Transport(plain_bytes, encrypted_bytes)
    ending = Closing(transport, asyncio.get_running_loop(), patience, lambda: transport.asked.append("given up"))
    ending.begin()
    return transport, ending


@in_virtual_time
async def test_what_is_taken_is_closed_at_once_and_aborted_without_a_goodbye():
    transport, ending = closing(0, 0)
    assert transport.asked == ["close"]
    await asyncio.sleep(PATIENCE.goodbye_seconds + 1)
    assert transport.asked == ["close", "abort"]
    assert not ending.given_up, "nothing that was written is lost"


@in_virtual_time
async def test_a_peer_that_takes_something_now_and_then_gets_everything():
    transport, ending = closing(0, 3 * MUCH)
    while transport.encrypted_bytes:
        await asyncio.sleep(PATIENCE.taking_seconds - 1)
        assert transport.asked == []
        transport.encrypted_bytes -= MUCH
    await asyncio.sleep(LONGEST_LOOK_SECONDS)
    assert transport.asked == ["close"]
    ending.end()
    await asyncio.sleep(PATIENCE.goodbye_seconds + 1)
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
    await asyncio.sleep(PATIENCE.taking_seconds + 1)
    assert transport.asked == ["abort", "given up"]
    assert ending.given_up


@in_virtual_time
async def test_nobody_waits_long_for_a_goodbye_to_be_taken():
    transport, ending = closing(0, PATIENCE.goodbye_bytes)
    await asyncio.sleep(PATIENCE.goodbye_seconds + 1)
    assert transport.asked == ["abort", "given up"]
    assert ending.given_up


@in_virtual_time
async def test_a_peer_that_takes_a_byte_now_and_then_is_given_up_in_the_end():
    transport, ending = closing(0, MUCH)
    for _ in range(round(PATIENCE.longest_seconds) + 1):
        await asyncio.sleep(1)
        transport.encrypted_bytes -= 1
    assert transport.asked == ["abort", "given up"]
    assert ending.given_up


@in_virtual_time
async def test_a_transport_that_is_closed_at_once_is_looked_after_until_everything_is_taken():
    transport = Transport(0, 2 * MUCH)
    ending = Closing(transport, asyncio.get_running_loop(), PATIENCE)
    ending.close()
    assert transport.asked == ["close"]
    await asyncio.sleep(PATIENCE.taking_seconds - 1)
    transport.encrypted_bytes -= MUCH
    await asyncio.sleep(PATIENCE.taking_seconds - 1)
    transport.encrypted_bytes = 0
    await asyncio.sleep(PATIENCE.goodbye_seconds - 1)
    assert transport.asked == ["close"]
    await asyncio.sleep(2)
    assert transport.asked == ["close", "abort"]
    assert not ending.given_up


@in_virtual_time
async def test_without_a_goodbye_to_wait_for_it_ends_with_the_last_byte():
    transport, ending = closing(0, MUCH, Patience(taking_seconds=15.0, goodbye_seconds=0.0))
    await asyncio.sleep(PATIENCE.longest_seconds / 5)
    transport.encrypted_bytes = 0
    await asyncio.sleep(2 * LONGEST_LOOK_SECONDS)
    assert transport.asked == ["close", "abort"]
    assert not ending.given_up


@in_virtual_time
async def test_a_transport_that_is_gone_is_not_looked_at_any_more():
    transport, ending = closing(0, MUCH)
    ending.end()
    await asyncio.sleep(PATIENCE.longest_seconds + 1)
    assert transport.asked == []
