"""What a body that opens a shell has to say, and how what is wrong with it is told."""

import pytest

from node_agent.shells.request import RequestRefused, parse_request


@pytest.mark.parametrize("body", [b"", b"{}"])
def test_nothing_asks_for_a_login_shell(body: bytes):
    request = parse_request(body)
    assert (request.argv, request.terminal, request.rows, request.columns) == ([], True, 24, 80)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"argv": ["true"], "argv": ["id"]}', "the body cannot be read: a name is in it twice"),
        (b'{"rows": NaN}', "the body cannot be read: NaN is not JSON"),
        (b"x", "the body cannot be read: it is not JSON"),
        (b"[" * 100_000, "the body cannot be read: it is not JSON"),
        (b'{"colour": "canary"}', "colour: unknown key"),
        (b'{"rows": 0}', "rows: should be greater than or equal to 1"),
        (b'{"argv": ["canary\\u0000"]}', "argv: must not contain NUL"),
        (b'{"argv": ["\\ud800"]}', "argv.0: should be a valid string, unable to parse raw data as a unicode string"),
    ],
)
def test_what_opens_no_shell_is_told_in_one_line(body: bytes, message: str):
    with pytest.raises(RequestRefused) as refused:
        parse_request(body)
    assert str(refused.value) == message
