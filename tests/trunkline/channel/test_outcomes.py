import json
from pathlib import Path

import pytest

from trunkline.channel.heads import HeadError, parse_response_head
from trunkline.channel.outcomes import Outcome, outcome_of_head_error, relay_response


def parsed(raw: bytes, method: bytes = b"GET"):
    head, _, content = raw.partition(b"\r\n\r\n")
    return parse_response_head(head + b"\r\n\r\n", request_method=method), content


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("proxy_door", [True, False])
def test_response_is_valid_and_marked_as_the_relays_own(outcome: Outcome, proxy_door: bool) -> None:
    head, content = parsed(relay_response(outcome, 'no "such"\n\\node', request_id="r-1", proxy_door=proxy_door))
    assert head.status == (407 if proxy_door and outcome.http_status == 401 else outcome.http_status)
    assert head.content_length == len(content)
    assert json.loads(content) == {"error_code": outcome.error_code, "message": 'no "such"\n\\node'}
    expected = f'trunkline-relay; error={outcome.proxy_status_error}; details="no \\"such\\"?\\\\node"'
    assert head.get(b"proxy-status") == expected.encode()
    assert head.get(b"trunkline-request-id") == b"r-1"
    assert (head.get(b"proxy-authenticate") is not None) == (head.status == 407)
    assert (head.get(b"www-authenticate") is not None) == (head.status == 401)


def test_optional_parts() -> None:
    raw = relay_response(Outcome.DRAINING, "going", request_id="r", close=True, head_only=True, retry_after_seconds=3)
    head, content = parsed(raw, b"HEAD")
    assert content == b""
    assert (head.status, head.keep_alive, head.get(b"retry-after")) == (503, False, b"3")


def test_labels_are_unique_and_levels_exist() -> None:
    assert len({outcome.metric_label for outcome in Outcome}) == len(Outcome)
    assert {outcome.log_level for outcome in Outcome} <= {"debug", "info", "warning", "error"}


@pytest.mark.parametrize("status", [400, 414, 417, 431, 501, 505])
def test_refused_heads_have_an_outcome_of_the_same_status(status: int) -> None:
    assert outcome_of_head_error(HeadError("code", "message", status)).http_status == status


def test_the_protocol_page_has_the_table() -> None:
    page = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()
    for outcome in Outcome:
        columns = outcome.code, outcome.http_status, outcome.error_code, outcome.proxy_status_error
        retry = "yes" if outcome.retry else "no"
        assert "| " + " | ".join(str(column) for column in (*columns, retry)) + " |" in page
