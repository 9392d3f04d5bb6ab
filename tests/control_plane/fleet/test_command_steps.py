"""What is done next about a command, in every situation; nothing final is ever undone."""

import pytest

from control_plane.fleet.command_steps import (
    BadAnswerError,
    NodeCommand,
    Step,
    end,
    heard,
    next_delay_seconds,
    next_step,
    not_asked,
    read_answer,
    unanswered,
    unknown_to_node,
)
from control_plane.storage.records.commands import Command

NOW, DEADLINE = 1_000, 2_000


def command(**fields: object) -> Command:
    known: dict[str, object] = {
        "state": "QUEUED",
        "final": False,
        "delivered": False,
        "maybe_delivered_until": None,
        "deliver_before": DEADLINE,
        "cancel_requested": False,
    }
    return Command(**(known | fields))


@pytest.mark.parametrize(
    ("fields", "now", "step"),
    [
        ({}, NOW, Step.DELIVER),
        ({}, DEADLINE, Step.GIVE_UP),
        ({"maybe_delivered_until": 5_000}, NOW, Step.DELIVER),
        ({"maybe_delivered_until": 5_000}, DEADLINE, Step.ASK),
        ({"cancel_requested": True}, NOW, Step.CANCEL_UNSENT),
        ({"cancel_requested": True, "maybe_delivered_until": 5_000}, NOW, Step.ASK),
        ({"delivered": True}, NOW, Step.ASK),
        ({"delivered": True}, DEADLINE * 1000, Step.ASK),
        ({"delivered": True, "cancel_requested": True}, NOW, Step.CANCEL),
        ({"delivered": True, "cancel_requested": True, "state": "CANCELLING"}, NOW, Step.ASK),
        ({"final": True, "cancel_requested": True}, NOW, Step.NOTHING),
        ({"held": True}, DEADLINE * 1000, Step.HOLD),
        ({"held": True, "cancel_requested": True}, NOW, Step.CANCEL_UNSENT),
    ],
)
def test_next_step(fields: dict[str, object], now: int, step: Step):
    assert next_step(command(**fields), now) is step


def test_an_unanswered_attempt_is_not_called_lost_while_it_may_still_arrive():
    waiting = command()
    unanswered(waiting, "the link was lost", 1_000, accepted_until_ms=5_000)
    unknown_to_node(waiting, 4_999)
    assert (waiting.state, waiting.final) == ("UNKNOWN", False)
    unknown_to_node(waiting, 5_001)
    assert (waiting.state, waiting.final, waiting.reason) == ("LOST", True, "it never reached the node")


def test_a_later_attempt_moves_the_limit_only_forwards():
    waiting = command()
    unanswered(waiting, "", 1_000, accepted_until_ms=5_000)
    unanswered(waiting, "", 1_000, accepted_until_ms=4_000)
    assert waiting.maybe_delivered_until == 5_000


def test_a_cancelled_attempt_that_never_arrived_ends_cancelled():
    waiting = command(cancel_requested=True, maybe_delivered_until=5_000)
    unknown_to_node(waiting, 5_001)
    assert (waiting.state, waiting.final) == ("CANCELLED", True)


def test_an_attempt_known_to_have_failed_is_made_again_before_the_deadline():
    waiting = command(maybe_delivered_until=1_500)
    unknown_to_node(waiting, 1_600)
    assert next_step(waiting, 1_700) is Step.DELIVER


def test_a_node_that_forgot_a_delivered_command_lost_it():
    waiting = command(delivered=True, state="RUNNING")
    unknown_to_node(waiting, NOW)
    assert (waiting.state, waiting.final, waiting.end_time) == ("LOST", True, NOW)


def test_what_the_node_says_is_taken_over():
    waiting = command(maybe_delivered_until=5_000)
    heard(waiting, NodeCommand(state="FAILED", exit_code=3, stdout_bytes=7, end_time=9))
    assert (waiting.state, waiting.final, waiting.exit_code, waiting.stdout_bytes) == ("FAILED", True, 3, 7)
    assert (waiting.delivered, waiting.maybe_delivered_until) == (True, None)


def test_a_silent_node_makes_the_state_unknown_and_a_word_of_it_known_again():
    waiting = command(delivered=True, state="RUNNING")
    not_asked(waiting, "no link", 1_000)
    assert (waiting.state, waiting.final, waiting.reason) == ("UNKNOWN", False, "no link")
    heard(waiting, NodeCommand(state="RUNNING"))
    assert (waiting.state, waiting.reason) == ("RUNNING", None)


def test_long_reasons_are_cut():
    ended = command()
    end(ended, "LOST", "x" * 5_000, NOW)
    assert ended.reason is not None
    assert len(ended.reason) == 1024


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"state": "UNKNOWN"}',
        b'{"state": "DANCING"}',
        b'{"state": "FAILED", "exit_code": "3"}',
        b'{"state": "FAILED", "exit_code": 1e400}',
        b'{"state": "RUNNING", "stdout_bytes": -1}',
        b"\xff\xfe",
        b'{"state":' * 5_000,
    ],
)
def test_what_is_no_command_is_refused(body: bytes):
    with pytest.raises(BadAnswerError):
        read_answer(body)


def test_fields_of_another_release_are_ignored():
    assert read_answer(b'{"state": "RUNNING", "colour": "red"}').state == "RUNNING"


def test_delays_grow_to_a_bound():
    delays = [next_delay_seconds(Step.ASK, attempt) for attempt in range(200)]
    assert delays == sorted(delays)
    assert delays[0] == 0.2
    assert delays[-1] == 10.0
    assert next_delay_seconds(Step.DELIVER, 200) == 3.0
    assert next_delay_seconds(Step.ASK, 200, 1.0) == 1.0


def test_a_start_that_was_told_stays_told():
    started = command(delivered=True)
    for said in (5, None, 7):
        heard(started, NodeCommand(state="RUNNING", start_time=said))
    assert started.start_time == 7
    heard(started, NodeCommand(state="QUEUED"))
    assert started.start_time == 7
