"""The one value in which the heads of a sender differ from each other, as of `traceparent`.

Where it is known which value that is, all before it and all behind it is compared at once, and goes on as it went on
before; only the value itself is looked at.
"""

from __future__ import annotations

from trunkline.channel.fields import is_field_value


class VaryingValue:
    """Where the value is in a head, and what goes on before and behind it."""

    __slots__ = ("_raw_before", "_raw_behind", "_to_node_before", "_to_node_behind")

    def __init__(self, raw_before: bytes, raw_behind: bytes, to_node_before: bytes, to_node_behind: bytes) -> None:
        """Takes what is before and behind the value in the head as it came, and in what goes to the node.

        `raw_before` ends, and `raw_behind` begins, in the value's own line, whose field means nothing to the relay.
        """
        self._raw_before = raw_before
        self._raw_behind = raw_behind
        self._to_node_before = to_node_before
        self._to_node_behind = to_node_behind

    def to_node(self, raw: bytes) -> bytes | None:
        """What goes to the node of a head that differs in this value only; None of any other head."""
        start, end = len(self._raw_before), len(raw) - len(self._raw_behind)
        if start > end or not raw.startswith(self._raw_before) or not raw.endswith(self._raw_behind):
            return None
        value = raw[start:end]
        return b"%b%b%b" % (self._to_node_before, value, self._to_node_behind) if is_field_value(value) else None
