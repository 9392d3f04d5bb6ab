"""Look-ups of names in virtual time: how many there are, what serves where they fail, and the order of addresses."""

import asyncio
import socket

import pytest

from trunkline.channel.addresses import (
    AVOIDED_SECONDS,
    FRESH_SECONDS,
    MOST_NAMES,
    PATIENCE_SECONDS,
    STALE_SECONDS,
    Address,
    Addresses,
)

VIRTUAL_TIME = True
ONE, TWO, THREE = (Address(socket.AF_INET, (f"192.0.2.{number}", 443)) for number in (1, 2, 3))
SIX = Address(socket.AF_INET6, ("2001:db8::1", 443, 0, 0))


class Resolver:
    """Answers as it is set to, once it is let."""

    def __init__(self):
        self.asked = []
        self.answer = [ONE]
        self.answering = asyncio.Event()
        self.answering.set()
        self.addresses = Addresses(self.look_up)

    async def look_up(self, host, port):
        self.asked.append(host)
        await self.answering.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def find(self, host="relay.test"):
        return await self.addresses.find(host, 443)


def fails(code=socket.EAI_AGAIN):
    return socket.gaierror(code, "no luck")


async def test_a_resolver_that_fails_is_asked_once_a_second_by_whoever_dials_all_the_time():
    resolver = Resolver()
    resolver.answer = fails()
    for _ in range(60):
        with pytest.raises(socket.gaierror, match="no luck"):
            await resolver.find()
        await asyncio.sleep(0.05)
    assert len(resolver.asked) == 3


async def test_a_resolver_that_hangs_is_asked_once_however_many_wait_and_give_up():
    resolver = Resolver()
    resolver.answering.clear()
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await resolver.find()
    waiting = [asyncio.create_task(resolver.find()) for _ in range(3)]
    await asyncio.sleep(1)
    resolver.answering.set()
    assert await asyncio.gather(*waiting) == [[ONE]] * 3
    assert resolver.asked == ["relay.test"]


@pytest.mark.parametrize("failing", [fails(), fails(socket.EAI_FAIL), OSError(24, "too many open files")])
async def test_the_last_answer_serves_where_the_resolver_fails_for_a_day(failing):
    resolver = Resolver()
    assert await resolver.find() == [ONE]
    resolver.answer = failing
    await asyncio.sleep(STALE_SECONDS - 1)
    assert await resolver.find() == [ONE]
    await asyncio.sleep(2)
    with pytest.raises(OSError, match=str(failing.strerror)):
        await resolver.find()


async def test_the_last_answer_serves_where_the_resolver_takes_its_time_until_it_has_another():
    resolver = Resolver()
    await resolver.find()
    await asyncio.sleep(60)
    resolver.answering.clear()
    resolver.answer = [TWO]
    began = asyncio.get_running_loop().time()
    assert await resolver.find() == [ONE]
    assert asyncio.get_running_loop().time() - began == pytest.approx(PATIENCE_SECONDS)
    resolver.answering.set()
    await asyncio.sleep(0.1)
    assert await resolver.find() == [TWO]


async def test_that_there_is_no_such_name_is_an_answer():
    resolver = Resolver()
    await resolver.find()
    await asyncio.sleep(60)
    resolver.answer = fails(socket.EAI_NONAME)
    with pytest.raises(socket.gaierror):
        await resolver.find()


async def test_names_are_looked_up_anew_when_they_are_dialled_again():
    resolver = Resolver()
    await resolver.find()
    resolver.answer = [TWO]
    assert await resolver.find() == [ONE]
    await asyncio.sleep(FRESH_SECONDS)
    assert await resolver.find() == [TWO]


async def test_a_name_that_cannot_be_one():
    with pytest.raises(UnicodeError):
        await Addresses().find("a" * 70 + ".test", 443)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.7", Address(socket.AF_INET, ("192.0.2.7", 443))),
        ("2001:db8::7", Address(socket.AF_INET6, ("2001:db8::7", 443, 0, 0))),
    ],
)
async def test_what_is_an_address_already_is_not_looked_up(host, address):
    resolver = Resolver()
    assert await resolver.find(host) == [address]
    assert resolver.asked == []


async def test_families_take_turns():
    resolver = Resolver()
    resolver.answer = [ONE, TWO, THREE, SIX]
    assert await resolver.find() == [ONE, SIX, TWO, THREE]


async def test_addresses_that_were_no_good_come_last_for_a_while():
    resolver = Resolver()
    resolver.answer = [ONE, TWO, THREE]
    await resolver.find()
    for address in (ONE, TWO):
        resolver.addresses.avoid("relay.test", 443, address)
        await asyncio.sleep(1)
    assert await resolver.find() == [THREE, ONE, TWO]
    resolver.addresses.welcome("relay.test", 443, TWO)
    assert await resolver.find() == [TWO, THREE, ONE]
    await asyncio.sleep(AVOIDED_SECONDS)
    assert await resolver.find() == [ONE, TWO, THREE]


async def test_names_that_are_not_dialled_any_more_are_forgotten():
    resolver = Resolver()
    for number in range(MOST_NAMES):
        await resolver.find(f"relay-{number}.test")
    await resolver.find("relay-0.test")
    await resolver.find("another.test")
    resolver.asked.clear()
    await resolver.find("relay-0.test")
    assert resolver.asked == []
    await resolver.find("relay-1.test")
    assert resolver.asked == ["relay-1.test"]
