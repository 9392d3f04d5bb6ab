"""What is kept of credentials follows those that live."""

from certs.expiring import ExpiringEntries


def entries_of(most: int) -> ExpiringEntries[float]:
    return ExpiringEntries(most, lambda ends_at: ends_at)


def test_short_lived_ones_do_not_pile_up() -> None:
    kept = entries_of(10_000)
    for number in range(10_000):
        kept.put(f"token {number}", number + 60.0, float(number))
        assert len(kept.entries) <= 2 * 60 + 2


def test_a_long_lived_one_in_front_holds_nobody_up_and_stays() -> None:
    kept = entries_of(10_000)
    for number in range(50):
        kept.put(f"long {number}", 1e9, 0.0)
    for number in range(5_000):
        kept.put(f"token {number}", number + 10.0, float(number))
    assert {f"long {number}" for number in range(50)} < set(kept.entries)
    assert len(kept.entries) <= 2 * (50 + 10) + 2


def test_the_bound_holds_where_all_live() -> None:
    kept = entries_of(3)
    for number in range(10):
        kept.put(f"token {number}", 1e9, 0.0)
        assert len(kept.entries) == min(number + 1, 3)
    kept.put("token 9", 2e9, 0.0)
    assert len(kept.entries) == 3
    assert kept.entries["token 9"] == 2e9


def test_one_entry_may_be_the_most() -> None:
    kept = entries_of(1)
    kept.put("first", 1e9, 0.0)
    kept.put("second", 1e9, 0.0)
    assert kept.entries == {"second": 1e9}
