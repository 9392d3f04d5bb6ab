import asyncio

import pytest

from node_agent.checks import CheckResult, Checks, CheckStatus, run_check
from node_agent.policy import CheckRules


def check(*argv, **fields):
    return CheckRules(name="c", argv=list(argv), **fields)


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["sh", "-c", "echo fine; echo more"], CheckStatus.OK, "fine"),
        (["sh", "-c", "printf 'bad\\033[31m'; exit 1"], CheckStatus.FAILED, "bad[31m"),
        (["sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x"], CheckStatus.OK, "x" * 200),
        (["sh", "-c", "exit 2"], CheckStatus.FAILED, ""),
    ],
)
async def test_the_exit_status_decides_and_the_first_line_explains(argv, status, message):
    assert await run_check(check(*argv), None) == CheckResult("c", status, message)


async def test_a_program_that_is_not_there():
    result = await run_check(check("/no/such/program"), None)
    assert result.status is CheckStatus.FAILED
    assert "No such file" in result.message


async def test_a_check_that_hangs_is_ended():
    result = await run_check(check("sleep", "60", timeout_seconds=0.1), None)
    assert result == CheckResult("c", CheckStatus.FAILED, "it did not end within 0.1 s")


async def test_checks_follow_the_policy(policy_file, policy, rng, log, until):
    checks = Checks(policy, rng, log)
    running = asyncio.ensure_future(checks.run())
    await asyncio.sleep(0)
    assert checks.results() == []
    user = policy_file.read_text()
    policy_file.write_text(
        user + "[[checks]]\nname = 'good'\nargv = ['true']\n[[checks]]\nname = 'slow'\nargv = ['sleep', '60']\n"
    )
    assert policy.reload()
    await until(lambda: CheckResult("good", CheckStatus.OK) in checks.results())
    assert CheckResult("slow", CheckStatus.PENDING) in checks.results()
    policy_file.write_text(user)
    assert policy.reload()
    await until(lambda: checks.results() == [])
    running.cancel()
    await asyncio.wait([running])
