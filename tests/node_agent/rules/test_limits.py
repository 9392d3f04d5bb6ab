import pytest
from pydantic import ValidationError

from node_agent.policy import CommandRules
from node_agent.rules.limits import AskedLimits, Limits

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
