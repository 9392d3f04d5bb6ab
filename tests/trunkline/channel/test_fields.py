"""That a field's value is what RFC 9110 section 5.5 makes of one, and nothing else."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.channel.fields import is_field_value

VISIBLE = rb"[\x21-\x7e\x80-\xff]"
VALUE = re.compile(rb"(?:" + VISIBLE + rb"(?:[\t\x20-\x7e\x80-\xff]*" + VISIBLE + rb")?)?")


@pytest.mark.parametrize("octet", range(256))
def test_each_octet_in_each_place(octet: int) -> None:
    one = bytes([octet])
    for value in (one, one + b"a", b"a" + one, b"a" + one + b"a", one * 2):
        assert is_field_value(value) is (VALUE.fullmatch(value) is not None)


@given(st.binary(max_size=6))
def test_any_octets(value: bytes) -> None:
    assert is_field_value(value) is (VALUE.fullmatch(value) is not None)


def test_nothing_is_a_value() -> None:
    assert is_field_value(b"")
