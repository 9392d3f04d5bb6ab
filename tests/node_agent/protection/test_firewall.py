import asyncio

import pytest

from node_agent.protection.firewall import FirewallUnavailable, Tool
from trunkline.runtime.loop import loop_factory


async def test_what_it_writes_is_returned_and_rules_come_on_standard_input():
    assert await Tool().run("cat", content="table x\n") == b"table x\n"


@pytest.mark.parametrize(
    ("program", "arguments", "said"),
    [
        ("no-such-firewall", (), "is not installed"),
        ("sh", ("-c", "echo 'may not' >&2; echo more >&2; exit 3"), "sh: may not$"),
        ("false", (), "exit status 1"),
    ],
)
async def test_what_goes_wrong_is_said(program, arguments, said):
    with pytest.raises(FirewallUnavailable, match=said):
        await Tool().run(program, *arguments)


async def test_programs_are_the_systems_and_get_nothing_of_the_agents_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SECRET", "hunter2")
    written = await Tool().run("env")
    assert b"hunter2" not in written
    assert str(tmp_path).encode() not in written


def test_programs_that_end_before_anything_is_read_are_no_fault_on_the_loop_that_agents_run_on():
    async def run_many() -> None:
        for _ in range(5):
            await asyncio.gather(*(Tool().run("true", content="table x\n") for _ in range(8)))

    with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
        runner.run(run_many())
