import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.encoding import canonical_json, decode_base64, decode_base64url, encode_base64url, strict_json_object


@given(st.binary(max_size=200))
def test_base64url_there_and_back(raw: bytes) -> None:
    assert decode_base64url(encode_base64url(raw)) == raw


@given(st.text(alphabet="ABab01-_=+/\n é", max_size=12))
def test_only_the_canonical_form_is_read(text: str) -> None:
    try:
        raw = decode_base64url(text)
    except ValueError:
        return
    assert encode_base64url(raw) == text


@pytest.mark.parametrize("text", ["A", "AB==", "AA=", "A A", "AA\n", "AB", "é", "A+/=", "AAA=AAAA"])
def test_padded_base64_is_canonical_too(text: str) -> None:
    with pytest.raises(ValueError, match="base64"):
        decode_base64(text)


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"1", b'{"a":1,"a":1}', b'{"a":{"b":1,"b":2}}', b'{"a":1.0}', b'{"a":1e3}', b'{"a":NaN}',
     b'{"a":-Infinity}', b'{"a":99999999999999999}', b"\xef\xbb\xbf{}", b'{"a":"\xff"}', b'{"a":"\x00"}', b"{}{}",
     b'{"a":01}', b"{'a':1}", b'{"a":1,}', b'{"a":tru}', b"[" * 100_000],
)  # fmt: skip
def test_json_with_a_second_reading_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="JSON"):
        strict_json_object(raw, max_depth=10)


def test_depth_counts_brackets_outside_strings() -> None:
    assert strict_json_object(b'{"a":"[[[[\\"[[[","b":[1]}', max_depth=2)
    with pytest.raises(ValueError, match="too deeply"):
        strict_json_object(b'{"a":{"b":[1]}}', max_depth=2)


@pytest.mark.parametrize("end", [b"", b"\\"])
def test_a_string_that_does_not_end_is_looked_at_once(end: bytes) -> None:
    """Looked for again from each of its quotes, it would take hours."""
    with pytest.raises(ValueError, match="not strict JSON"):
        strict_json_object(b'"' + b'\\"[' * 500_000 + end, max_depth=2)


@given(st.dictionaries(st.text(max_size=5), st.integers(-(10**14), 10**14) | st.text() | st.booleans() | st.none()))
def test_canonical_json_is_read_back_the_same(value: dict[str, object]) -> None:
    assert strict_json_object(canonical_json(value), max_depth=2) == value
    assert canonical_json(json.loads(canonical_json(value))) == canonical_json(value)


@given(st.binary(max_size=100))
def test_any_bytes_raise_value_error_or_nothing(raw: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(strict_json_object(raw, max_depth=3), dict)
