import json

import pytest

from relay.doors.entry import Door
from relay.senders.own_answers import RETRY_AFTER_SECONDS, own_answer
from tests.support.small_relay import SmallRelay, on_relay
from trunkline.channel.heads import parse_response_head
from trunkline.channel.outcomes import Outcome


@pytest.mark.parametrize("door", list(Door))
@pytest.mark.parametrize("outcome", [Outcome.NO_TOKEN, Outcome.OVER_QUOTA, Outcome.OVERLOADED])
@on_relay()
async def test_an_answer_is_counted_unless_its_call_is(relay: SmallRelay, outcome: Outcome, door: Door) -> None:
    labels = {"door": door.value, "outcome": outcome.metric_label}
    for request_id in (None, "call-1"):
        raw = own_answer(relay.front, door, outcome, "why", close=True, request_id=request_id)
        head, _, content = raw.partition(b"\r\n\r\n")
        parsed = parse_response_head(head + b"\r\n\r\n", request_method=b"GET")
        assert parsed.get(b"trunkline-request-id") == (request_id or "t-01").encode()
        assert json.loads(content)["error_code"] == outcome.error_code
        seconds = RETRY_AFTER_SECONDS.get(outcome)
        assert parsed.get(b"retry-after") == (None if seconds is None else str(seconds).encode())
        assert (parsed.get(b"proxy-authenticate") is not None) == (door is Door.PROXY and outcome is Outcome.NO_TOKEN)
        assert not parsed.keep_alive
        assert relay.metric("calls_total", **labels) == 1
    assert len(relay.log_lines.calls) == 2


@on_relay()
async def test_head_only_has_no_content(relay: SmallRelay) -> None:
    raw = own_answer(relay.front, Door.PROXY, Outcome.NO_LISTENER, "why", close=False, head_only=True)
    assert raw.endswith(b"\r\n\r\n")
    assert b"Connection: close" not in raw
