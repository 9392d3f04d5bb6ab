"""What was made of bytes that come again and again, kept in bounded memory.

A memo has two generations. New entries go into the young one; when it is full it becomes the old one, whose entries are
gone, unless they were asked for in the meantime: those move back. So what comes often stays, a flood of what comes
once costs nothing but its own entries, and no entry needs to be touched when it is found. Whoever ages a memo at times
has it keep what is in use, and not all that was: credentials of the past are long, and nobody asks for them again.
Of what comes for the first time a memo keeps no more than a mark: tokens of links come once.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Generations(Generic[K, V]):
    """A bounded dictionary: at most twice `generation_entries`."""

    __slots__ = ("_generation_entries", "_old", "young")

    def __init__(self, generation_entries: int) -> None:
        self._generation_entries = generation_entries
        self._old: dict[K, V] = {}
        self.young: dict[K, V] = {}
        """The entries that are found most cheaply; to be read only, and not to be kept."""

    def get(self, key: K) -> V | None:
        """The value for the key, if there is one."""
        value = self.young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        """Keeps a value for the key."""
        if len(self.young) >= self._generation_entries:
            self.age()
        self.young[key] = value

    def age(self) -> None:
        """The young generation becomes the old one: what nobody asks for before the next time is gone then."""
        self._old, self.young = self.young, {}


class Marks:
    """What has come before, nearly: an octet for each of some places, so that one in 255 new ones is taken for old.

    That is good enough for deciding what to remember, and costs one look at a little memory.
    """

    __slots__ = ("_marks", "_mask", "_shift")

    def __init__(self, places_bits: int) -> None:
        """Makes room for two to the power of `places_bits` hashes."""
        self._marks = bytearray(1 << places_bits)
        self._mask = (1 << places_bits) - 1
        self._shift = places_bits

    def add(self, mark: int) -> bool:
        """Notes a hash, and tells whether it was there."""
        marks = self._marks
        place = mark & self._mask
        octet = mark >> self._shift & 0xFF or 1  # 0 is a place where nothing has come
        if marks[place] == octet:
            return True
        marks[place] = octet
        return False


class Memo(Generic[V]):
    """A pure function of bytes that remembers its results; what the function raises is not remembered."""

    __slots__ = ("_function", "_max_key_bytes", "_results", "_seen")

    def __init__(self, function: Callable[[bytes], V], *, generation_entries: int, max_key_bytes: int) -> None:
        """Results are remembered from the second time on, for keys up to `max_key_bytes` long; None never is."""
        self._function = function
        self._max_key_bytes = max_key_bytes
        self._results: Generations[bytes, V] = Generations(generation_entries)
        self._seen: Generations[int, bool] = Generations(generation_entries)

    def __call__(self, key: bytes) -> V:
        """The function's result."""
        result = self._results.get(key)
        if result is None:
            result = self._function(key)
            if len(key) <= self._max_key_bytes:
                mark = hash(key)
                if self._seen.get(mark) is not None:
                    self._results.put(key, result)
                else:
                    self._seen.put(mark, True)
        return result

    def age(self) -> None:
        """As `Generations.age`, for what is remembered and for the marks."""
        self._results.age()
        self._seen.age()
