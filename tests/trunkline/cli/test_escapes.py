import pytest

from trunkline.cli.escapes import EscapeFilter


@pytest.mark.parametrize(
    ("typed", "passed", "leaves"),
    [
        (b"ls\r", b"ls\r", False),
        (b"~.", b"", True),
        (b"ls\r~.rest", b"ls\r", True),
        (b"cd ~.\r", b"cd ~.\r", False),
        (b"~~.", b"~.", False),
        (b"~x", b"~x", False),
        (b"~\r~.", b"~\r", True),
        (b"\n~", b"\n", False),
    ],
)
def test_the_escape_is_noticed_at_the_beginning_of_a_line_only(typed, passed, leaves):
    assert EscapeFilter().feed(typed) == (passed, leaves)


def test_keys_may_come_one_by_one():
    keys = EscapeFilter()
    fed = [keys.feed(bytes([key])) for key in b"a\r~b~."]
    assert b"".join(passed for passed, _ in fed) == b"a\r~b~."
    assert [keys.feed(b"\r"), keys.feed(b"~"), keys.feed(b".")] == [(b"\r", False), (b"", False), (b"", True)]
