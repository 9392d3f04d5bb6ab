import pytest

from trunkline.channel.memo import Generations, Marks, Memo


def test_what_was_put_is_found() -> None:
    kept: Generations[bytes, int] = Generations(2)
    assert kept.get(b"a") is None
    kept.put(b"a", 1)
    assert kept.get(b"a") == 1
    assert kept.young == {b"a": 1}


def test_two_generations_bound_it() -> None:
    kept: Generations[int, int] = Generations(10)
    for number in range(1000):
        kept.put(number, number + 1)
        assert len(kept.young) <= 10
    assert sum(kept.get(number) is not None for number in range(1000)) <= 20


def test_what_is_asked_for_survives_a_flood() -> None:
    kept: Generations[int, str] = Generations(10)
    kept.put(-1, "often")
    for number in range(1000):
        kept.put(number, "once")
        assert kept.get(-1) == "often"


def test_memo_keeps_what_comes_a_second_time() -> None:
    calls = []

    def double(key: bytes) -> bytes:
        calls.append(key)
        return key + key

    memo = Memo(double, generation_entries=10, max_key_bytes=4)
    assert [memo(b"ab") for _ in range(5)] + [memo(b"c")] == [b"abab"] * 5 + [b"cc"]
    assert calls == [b"ab", b"ab", b"c"]


def test_a_flood_of_what_comes_once_displaces_nothing() -> None:
    calls = []

    def double(key: bytes) -> bytes:
        calls.append(key)
        return key + key

    memo = Memo(double, generation_entries=10, max_key_bytes=10)
    kept = [b"%d" % number for number in range(5)]
    for key in kept * 2:
        memo(key)
    for number in range(1000):
        memo(b"once %d" % number)
    calls.clear()
    assert [memo(key) for key in kept] == [key + key for key in kept]
    assert calls == []


def test_long_keys_and_failures_are_not_remembered() -> None:
    calls = []

    def refuse(key: bytes) -> int:
        calls.append(key)
        if key == b"bad":
            raise ValueError("refused")
        return len(key)

    memo = Memo(refuse, generation_entries=10, max_key_bytes=4)
    assert [memo(b"12345"), memo(b"12345")] == [5, 5]
    for _ in range(2):
        with pytest.raises(ValueError, match="refused"):
            memo(b"bad")
    assert calls == [b"12345", b"12345", b"bad", b"bad"]


def test_what_nobody_asks_for_is_gone_once_it_has_aged_twice() -> None:
    kept: Generations[bytes, int] = Generations(10)
    kept.put(b"used", 1)
    kept.put(b"left", 2)
    for _ in range(3):
        kept.age()
        assert kept.get(b"used") == 1
    assert kept.get(b"left") is None


def test_a_memo_that_has_aged_twice_reads_anew() -> None:
    calls = []

    def double(key: bytes) -> bytes:
        calls.append(key)
        return key + key

    memo = Memo(double, generation_entries=10, max_key_bytes=4)
    for _ in range(3):
        memo(b"ab")
    assert len(calls) == 2
    memo.age()
    memo(b"ab")
    assert len(calls) == 2
    memo.age()
    memo.age()
    assert memo(b"ab") == b"abab"
    assert len(calls) == 3


def test_marks_know_what_came_before_and_hardly_anything_else() -> None:
    marks = Marks(10)
    assert not marks.add(3 << 10 | 5)
    assert marks.add(3 << 10 | 5)
    fresh = Marks(10)
    hashes = [number * 0x9E3779B97F4A7C15 % 2**64 - 2**63 for number in range(1, 1000)]
    assert sum(fresh.add(one) for one in hashes) < 100


def test_of_what_nothing_came_before_nothing_is_known() -> None:
    for octet in range(256):
        assert not Marks(10).add(octet << 10 | 5)
