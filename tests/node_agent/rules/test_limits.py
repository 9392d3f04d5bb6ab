import pytest
from pydantic import ValidationError

from node_agent.policy import CommandRules
from node_agent.rules.limits import AskedLimits, Limits
from node_agent.rules.named import NamedCommand

GIGABYTE = 1024**3


def test_the_owners_bound_is_what_nobody_exceeds():
    rules = CommandRules(limits=Limits(memory_bytes=GIGABYTE, processes=100))
    assert rules.limits_of(None) == Limits(memory_bytes=GIGABYTE, processes=100)
    asked = AskedLimits(memory_bytes=2 * GIGABYTE, processes=10, cpu_percent=50)
    assert rules.limits_of(asked) == Limits(memory_bytes=GIGABYTE, processes=10, cpu_percent=50)


def test_who_asks_for_none_gets_the_default_within_the_bound():
    rules = CommandRules(
        limits=Limits(memory_bytes=GIGABYTE), default_limits=Limits(memory_bytes=4 * GIGABYTE, open_files=64)
    )
    assert rules.limits_of(None) == Limits(memory_bytes=GIGABYTE, open_files=64)
    assert rules.limits_of(AskedLimits(open_files=128)) == Limits(memory_bytes=GIGABYTE, open_files=128)


def test_without_a_word_a_command_cannot_have_processes_without_end():
    assert CommandRules().limits_of(None).processes == 4096


def test_output_is_bounded_by_the_smaller_of_both():
    rules = CommandRules(max_output_bytes=10_000)
    assert [
        rules.output_bytes(one) for one in (None, AskedLimits(output_bytes=2000), AskedLimits(output_bytes=20_000))
    ] == [
        10_000,
        2000,
        10_000,
    ]


@pytest.mark.parametrize(
    "fields", [{}, {"memory_bytes": 0}, {"processes": 0}, {"cpu_percent": 0}, {"open_files": 1}, {"x": 1}]
)
def test_limits_that_are_none(fields):
    with pytest.raises(ValidationError):
        AskedLimits(**fields)


NAMED = NamedCommand(
    argv=("true",),
    timeout_seconds=7200.0,
    max_grace_seconds=2.0,
    max_output_bytes=4096,
    limits=Limits(processes=8, memory_bytes=2 * GIGABYTE),
)


def test_a_named_command_has_limits_of_its_own_below_those_of_all():
    rules = CommandRules(
        limits=Limits(memory_bytes=GIGABYTE, processes=100), default_limits=Limits(processes=50), named={"one": NAMED}
    )
    assert rules.limits_of(None, "one") == Limits(memory_bytes=GIGABYTE, processes=8)
    asked = AskedLimits(processes=4, memory_bytes=GIGABYTE // 2, output_bytes=2048)
    assert rules.limits_of(asked, "one") == Limits(memory_bytes=GIGABYTE // 2, processes=4)
    assert rules.limits_of(AskedLimits(processes=99), "one").processes == 8
    assert (rules.output_bytes(None, "one"), rules.output_bytes(asked, "one")) == (4096, 2048)
    assert (rules.grace_seconds(10.0, "one"), rules.grace_seconds(1.0, "one")) == (2.0, 1.0)
    assert rules.limits_of(None).processes == 50, "others are as they were"
    assert rules.output_bytes(None) == GIGABYTE


def test_the_time_of_a_named_command_is_its_default_and_its_bound():
    rules = CommandRules(named={"one": NAMED})
    assert [rules.timeout_seconds(asked, "one") for asked in (None, 60.0, 9000.0)] == [7200.0, 60.0, 7200.0]
    assert CommandRules(max_timeout_seconds=100.0, named={"one": NAMED}).timeout_seconds(None, "one") == 100.0
    assert rules.timeout_seconds(None) == 3600.0
