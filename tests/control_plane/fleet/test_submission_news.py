"""Waiting for news of a submission: what came before is not missed, and other submissions wake nobody."""

import asyncio

from control_plane.fleet.submission_news import REMEMBERED, SubmissionNews
from control_plane.storage.submissions import SubmissionKey
from tests.support.virtual_time import in_virtual_time

ONE, OTHER = SubmissionKey("ws-1", "s-1"), SubmissionKey("ws-1", "s-2")


async def waited_seconds(news: SubmissionNews, seen: str) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await news.wait(ONE, seen, 30.0)
    return loop.time() - began


@in_virtual_time
async def test_a_change_ends_the_wait_and_another_submissions_does_not():
    news = SubmissionNews()
    loop = asyncio.get_running_loop()
    loop.call_later(1.0, news.tell, OTHER)
    loop.call_later(2.0, news.tell, ONE)
    assert round(await waited_seconds(news, news.revision(ONE))) == 2
    assert round(await waited_seconds(news, news.revision(ONE))) == 30


@in_virtual_time
async def test_the_end_of_a_workspace_ends_the_wait_and_that_of_another_does_not():
    news = SubmissionNews()
    loop = asyncio.get_running_loop()
    loop.call_later(1.0, news.workspace_ended, "ws-2")
    loop.call_later(2.0, news.workspace_ended, ONE.workspace_id)
    seen = news.revision(ONE)
    assert round(await waited_seconds(news, seen)) == 2
    assert await waited_seconds(news, seen) == 0, "it may have ended before the wait began"


@in_virtual_time
async def test_what_changed_before_is_not_waited_for():
    news = SubmissionNews()
    seen = news.revision(ONE)
    news.tell(ONE)
    assert await waited_seconds(news, seen) == 0
    assert await waited_seconds(SubmissionNews(), news.revision(ONE)) == 0, "of another process"


@in_virtual_time
async def test_one_reader_takes_each_submission_once():
    news = SubmissionNews()
    news.tell(ONE)
    news.tell(ONE)
    news.tell(OTHER)
    assert await news.take(None) == {ONE, OTHER}
    assert await news.take(5.0) == set()


def test_what_is_remembered_is_bounded():
    news = SubmissionNews()
    news.tell(ONE)
    seen = news.revision(ONE)
    for number in range(REMEMBERED):
        news.tell(SubmissionKey("ws-1", f"x-{number}"))
    assert news.revision(ONE) != seen
    assert len(news._counts) == REMEMBERED
