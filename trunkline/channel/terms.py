"""The terms of a link: what both ends say in the upgrade about the mux that follows, and what they agree on.

An offer and an answer are the same three fields. `Trunkline-Version` and `Trunkline-Features` both absent mean plain
yamux. `Trunkline-Window` is the window that each new stream starts with, in both directions; the smaller of the two
counts, and where either end says nothing it is yamux's own 256 KiB, because a peer that does not know the field will
send that much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trunkline.channel.errors import HandshakeFailed
from trunkline.channel.frames import INITIAL_WINDOW_BYTES

SMALLEST_WINDOW_BYTES: Final = 1_024
LARGEST_WINDOW_BYTES: Final = 16_777_216
PROTOCOL_VERSION: Final = 1
COMPACT: Final = "compact"

_VERSION: Final = b"Trunkline-Version"
_FEATURES: Final = b"Trunkline-Features"
_WINDOW: Final = b"Trunkline-Window"
_MOST_FEATURES: Final = 16
_MOST_DIGITS: Final = 9
_FEATURE_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


@dataclass(frozen=True, slots=True)
class LinkTerms:
    """What one end offers, or what both agreed.

    Attributes:
        version: the protocol version, or None for plain yamux.
        features: names of optional behaviour; `compact` lets a FIN ride on a DATA frame.
        window_bytes: the window of a new stream, or None where the field is absent (262,144 bytes then).
        return_within_seconds: only as a listener has read it in an answer: over how long the listeners of this relay
            are to spread their return, should it go. Nothing that is agreed on.
    """

    version: int | None = None
    features: frozenset[str] = frozenset()
    window_bytes: int | None = None
    return_within_seconds: int = 0

    @property
    def compact(self) -> bool:
        """Whether a FIN may ride on a DATA frame."""
        return COMPACT in self.features

    @property
    def initial_window_bytes(self) -> int:
        """The window of a new stream, in bytes, in each direction."""
        return INITIAL_WINDOW_BYTES if self.window_bytes is None else self.window_bytes


PLAIN_YAMUX: Final = LinkTerms()
OWN_TERMS: Final = LinkTerms(PROTOCOL_VERSION, frozenset({COMPACT}), 65_536)


def agree(offer: LinkTerms, own: LinkTerms = OWN_TERMS) -> LinkTerms:
    """The terms that hold between an end that offers `offer` and one that would offer `own`."""
    window_bytes = None
    if offer.window_bytes is not None and own.window_bytes is not None:
        window_bytes = min(offer.window_bytes, own.window_bytes)
    if offer.version is None or own.version is None:
        return LinkTerms(None, frozenset(), window_bytes)
    return LinkTerms(min(offer.version, own.version), offer.features & own.features, window_bytes)


def check_answer(offer: LinkTerms, answer: LinkTerms) -> LinkTerms:
    """The answer itself, once it is sure that it names nothing that was not offered.

    Raises:
        HandshakeFailed: the answer goes beyond the offer.
    """
    if agree(offer, answer) != answer:
        raise HandshakeFailed("the relay answered with link terms that were not offered")
    return answer


def write_terms(terms: LinkTerms) -> list[tuple[bytes, bytes]]:
    """The header fields that state `terms`; none for plain yamux."""
    fields = []
    if terms.version is not None:
        fields.append((_VERSION, b"%d" % terms.version))
        if terms.features:
            fields.append((_FEATURES, ", ".join(sorted(terms.features)).encode("ascii")))
    if terms.window_bytes is not None:
        fields.append((_WINDOW, b"%d" % terms.window_bytes))
    return fields


def read_terms(fields: dict[bytes, bytes]) -> LinkTerms:
    """The terms stated in header fields, given by lower-case name.

    Raises:
        HandshakeFailed: a field is malformed or out of bounds.
    """
    version = _read_number(fields, _VERSION, 1, 255)
    features = _read_features(fields.get(_FEATURES.lower()))
    if features and version is None:
        raise HandshakeFailed("Trunkline-Features without Trunkline-Version")
    window_bytes = _read_number(fields, _WINDOW, SMALLEST_WINDOW_BYTES, LARGEST_WINDOW_BYTES)
    return LinkTerms(version, features, window_bytes)


def _read_number(fields: dict[bytes, bytes], name: bytes, least: int, most: int) -> int | None:
    value = fields.get(name.lower())
    if value is None:
        return None
    if not value.isdigit() or len(value) > _MOST_DIGITS or not least <= int(value) <= most:
        raise HandshakeFailed(f"{name.decode()} must be a number from {least} to {most}")
    return int(value)


def _read_features(value: bytes | None) -> frozenset[str]:
    if value is None:
        return frozenset()
    names = [name.strip(" \t") for name in value.decode("latin-1").split(",")]
    if len(names) > _MOST_FEATURES or not all(name and set(name) <= _FEATURE_CHARACTERS for name in names):
        raise HandshakeFailed("Trunkline-Features must be a list of at most 16 lower-case names")
    return frozenset(names)
