"""Text that others wrote, as databases take it."""

import pytest

from control_plane.storage.text import storable


@pytest.mark.parametrize(
    ("text", "stored"),
    [("Grüße", "Grüße"), ("a\ud800b", "a\\ud800b"), ("a\0b", "a\\x00b"), ("\0\0\0", "\\x00\\x00"), ("ü" * 9, "ü" * 8)],
)
def test_what_no_database_takes_is_escaped_within_the_bound(text: str, stored: str) -> None:
    assert storable(text, 8) == stored
