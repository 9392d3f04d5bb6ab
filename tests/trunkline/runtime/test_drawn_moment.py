"""A moment within a time: it comes once, nothing puts it off, and a shorter time brings it forward."""

import asyncio
import random

from trunkline.runtime.drawn_moment import DrawnMoment

VIRTUAL_TIME = True


async def test_it_comes_once_within_the_time():
    moment, came = DrawnMoment(random.Random(1)), list[float]()
    loop = asyncio.get_running_loop()
    began = loop.time()
    delay_seconds = moment.draw(100.0, lambda: came.append(loop.time()))
    assert delay_seconds is not None
    assert moment.at == began + delay_seconds
    await asyncio.sleep(1000)
    assert came == [began + delay_seconds]
    assert 0 < delay_seconds < 100
    assert moment.at is None


async def test_asked_for_again_it_stands_unless_there_is_less_time():
    moment, came = DrawnMoment(random.Random(1)), list[str]()
    moment.draw(100.0, lambda: came.append("first"))
    at = moment.at
    for within_seconds in (100.0, 1000.0):
        assert moment.draw(within_seconds, lambda: came.append("later")) is None
        assert moment.at == at
    assert moment.draw(0.0, lambda: came.append("now")) == 0.0
    await asyncio.sleep(1000)
    assert came == ["now"]


async def test_cancelled_it_never_comes_and_another_may_be_drawn():
    moment, came = DrawnMoment(random.Random(1)), list[str]()
    moment.draw(100.0, lambda: came.append("first"))
    moment.cancel()
    assert moment.at is None
    moment.draw(100.0, lambda: came.append("second"))
    await asyncio.sleep(1000)
    assert came == ["second"]
