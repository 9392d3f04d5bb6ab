import base64
import json

import pytest

from certs.bindings import COMMAND_ID
from node_agent.commands.submission import MAX_STDIN_BYTES, SubmissionRefused, parse_submission


def body(**fields):
    return json.dumps({"argv": ["true"]} | fields).encode()


def test_the_smallest_body_is_an_argv():
    submission = parse_submission(body())
    assert (submission.argv, submission.environment, submission.stdin) == (["true"], {}, None)


def test_a_whole_body_is_read():
    submission = parse_submission(
        body(
            environment={"A": "1"},
            working_directory="/tmp",
            user="deploy",
            timeout_seconds=5,
            stdin=base64.b64encode(b"\x00\xff").decode(),
        )
    )
    assert submission.stdin == b"\x00\xff"
    assert submission.timeout_seconds == 5


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"{}",
        b'{"argv":["a"],"argv":["b"]}',
        b'{"argv":["a"],"timeout_seconds":NaN}',
        b'{"argv":["a"],"timeout_seconds":1e999}',
        b"[" * 100_000,
        body(named="x"),
        body(parameters={"a": "b"}),
        b'{"named":"../x"}',
        b'{"named":"X"}',
        b'{"named":null}',
        b'{"named":"x","parameters":{"A":"b"}}',
        b'{"named":"x","parameters":{"a":null}}',
        b'{"named":"x","parameters":{"a":["b"]}}',
        b'{"named":"x","parameters":{"a":1.5}}',
        b'{"named":"x","parameters":{"a":"b","a":"c"}}',
        b'{"named":"x","parameters":{"a":"\\u0000"}}',
        body(argv=[]),
        body(argv=[""]),
        body(argv="uname -a"),
        body(argv=["a\0b"]),
        body(argv=[1]),
        b'{"argv":["\\ud800"]}',
        body(extra=1),
        body(environment={"A=B": "1"}),
        body(environment={"": "1"}),
        body(environment={"A": 1}),
        body(environment={"A": "\0"}),
        body(working_directory="tmp"),
        body(user="../root"),
        body(user="Root;id"),
        body(timeout_seconds=0),
        body(timeout_seconds=-1),
        body(timeout_seconds="5"),
        body(timeout_seconds=True),
        body(stdin="not base64!"),
        body(stdin=base64.b64encode(bytes(MAX_STDIN_BYTES + 1)).decode()),
    ],
)
def test_what_is_not_a_submission_is_refused_in_one_line(raw):
    with pytest.raises(SubmissionRefused) as refused:
        parse_submission(raw)
    assert "\n" not in str(refused.value)


def test_refusals_are_in_our_own_words():
    with pytest.raises(
        SubmissionRefused, match=r"^environment: a variable's name is empty or has = in it; x: unknown key$"
    ):
        parse_submission(body(environment={"": "1"}, x=1))


@pytest.mark.parametrize("value", ["1.5", "null", '"\\u0000"', "[]"])
def test_a_parameter_of_no_form_is_told_in_one_sentence(value):
    with pytest.raises(SubmissionRefused) as refused:
        parse_submission(f'{{"named": "restart", "parameters": {{"a": {value}}}}}'.encode())
    expected = "parameters.a: must be a string of at most 4096 characters without NUL, a whole number, true or false"
    assert str(refused.value) == expected


def test_bodies_that_mean_the_same_have_the_same_fingerprint():
    one = parse_submission(b'{"argv":["a"],"environment":{"X":"1","Y":"2"},"user":null}')
    other = parse_submission(b'{ "environment": {"Y":"2","X":"1"}, "argv": ["a"] }')
    assert one.fingerprint() == other.fingerprint()


@pytest.mark.parametrize(
    "other",
    [{"argv": ["false"]}, {"environment": {"A": "1"}}, {"user": "x"}, {"timeout_seconds": 1}, {"stdin": "eA=="}],
)
def test_bodies_that_differ_have_another_fingerprint(other):
    assert parse_submission(body()).fingerprint() != parse_submission(body(**other)).fingerprint()


@pytest.mark.parametrize("command_id", ["a", "A1._-", "x" * 128])
def test_command_ids(command_id):
    assert COMMAND_ID.fullmatch(command_id)


@pytest.mark.parametrize("command_id", ["", ".", "..", "-a", "a/b", "a\n", "x" * 129, "é"])
def test_what_is_no_command_id(command_id):
    assert not COMMAND_ID.fullmatch(command_id)


def test_a_body_without_named_has_the_hash_that_it_always_had():
    expected = "f81d8bca1a2f02e957bfe839d58a6f26"
    assert parse_submission(body()).fingerprint()[:32] == expected
    named = parse_submission(b'{"named":"x","parameters":{"a":1,"b":true,"c":"d"}}')
    assert named.parameters == {"a": 1, "b": True, "c": "d"}
    assert named.fingerprint() != parse_submission(b'{"named":"x"}').fingerprint()
    assert (
        named.fingerprint() != parse_submission(b'{"named":"x","parameters":{"a":"1","b":true,"c":"d"}}').fingerprint()
    )
