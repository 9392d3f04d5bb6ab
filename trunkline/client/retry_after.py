"""The field `Retry-After` (RFC 9110, section 10.2.3)."""

from __future__ import annotations


def read_retry_after(value: str) -> float | None:
    """The delay of a ``Retry-After`` in seconds; dates and anything else are ignored."""
    return float(value) if value.isascii() and value.isdigit() and len(value) <= 6 else None
