"""What a relay says on its link."""

import pytest

from node_agent.links.attachment import LONGEST_RETRY_AFTER_SECONDS, Attachment, Ending


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
