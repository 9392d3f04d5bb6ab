"""A ciphertext opens in its own place only."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.secrets.envelope import EnvelopeError, SecretPlace, new_data_key, open_value, seal_value

KEY = new_data_key()
PLACE = SecretPlace("ws-one", "db", "password", 3)


@given(st.binary(max_size=500))
def test_what_is_sealed_opens(value: bytes) -> None:
    assert open_value(seal_value(value, KEY, PLACE), KEY, PLACE) == value


def test_equal_values_do_not_look_equal() -> None:
    assert seal_value(b"same", KEY, PLACE) != seal_value(b"same", KEY, PLACE)


@pytest.mark.parametrize(
    "change", [{"workspace_id": "ws-two"}, {"scope": "db2"}, {"key": "passwor"}, {"version": 4}, {"version": 2}]
)
def test_elsewhere_it_does_not(change) -> None:
    with pytest.raises(EnvelopeError):
        open_value(seal_value(b"hunter2", KEY, PLACE), KEY, replace(PLACE, **change))


def test_names_cannot_run_into_each_other() -> None:
    """`a` + `bc` and `ab` + `c` are different places."""
    assert SecretPlace("w", "a", "bc", 1).associated_data() != SecretPlace("w", "ab", "c", 1).associated_data()


def test_with_another_key_it_does_not() -> None:
    with pytest.raises(EnvelopeError):
        open_value(seal_value(b"hunter2", KEY, PLACE), new_data_key(), PLACE)


@given(position=st.integers(0, 34), flip=st.integers(1, 255))
def test_any_alteration_is_noticed(position: int, flip: int) -> None:
    sealed = bytearray(seal_value(b"hunter2", KEY, PLACE))
    sealed[position] ^= flip
    with pytest.raises(EnvelopeError):
        open_value(bytes(sealed), KEY, PLACE)


@pytest.mark.parametrize("sealed", [b"", b"short", bytes(27)])
def test_what_is_no_ciphertext(sealed: bytes) -> None:
    with pytest.raises(EnvelopeError):
        open_value(sealed, KEY, PLACE)
