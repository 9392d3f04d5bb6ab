"""What a relay says on its link."""

import asyncio

import pytest

from node_agent.links.attachment import (
    LOG_BURST,
    LOG_INTERVAL_SECONDS,
    LONGEST_RETRY_AFTER_SECONDS,
    Attachment,
    Ending,
)
from tests.support.virtual_time import in_virtual_time


def no_stream(stream, notices):
    raise AssertionError("no stream is opened")


@pytest.mark.parametrize(
    ("stated", "taken"),
    [(2, 2.0), (0.5, 0.5), (-1, 0.0), (10**400, LONGEST_RETRY_AFTER_SECONDS), (float("nan"), 0.0), ("9", 0.0)],
)
async def test_a_relay_may_say_any_time_and_is_left_alone_for_an_hour_at_most(log, stated, taken):
    attachment = Attachment("https://relay.test", 1, no_stream, lambda document: None, log)
    attachment._noticed({"type": "draining", "retry_after_seconds": stated})
    assert attachment.retry_after_seconds == taken
    assert attachment.ending.result() is Ending.DRAINING


@in_virtual_time
async def test_a_relay_fills_no_log_with_notices(log, logged):
    attachment = Attachment("https://relay.test", 1, no_stream, lambda document: None, log)
    for number in range(1_000):
        attachment._noticed({"type": f"later-{number}"})
    assert len(logged.entries) == LOG_BURST
    await asyncio.sleep(LOG_INTERVAL_SECONDS)
    for _ in range(10):
        attachment._noticed({"type": "draining"})
    assert [entry["notice"] for entry in logged.entries[LOG_BURST:]] == ["draining"]
    assert attachment.ending.result() is Ending.DRAINING
