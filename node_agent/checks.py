"""The owner's checks: each a command of the policy file, run at an interval; exit status 0 says that all is well."""

import asyncio
import random
import signal
from dataclasses import dataclass
from enum import Enum
from typing import Any

from node_agent.commands.accounts import default_user
from node_agent.commands.process import Process, ProcessPlan, StartFailed
from node_agent.policy import CheckRules, Policy
from node_agent.policy_file import PolicySource
from trunkline.runtime.logs import Logger

MAX_OUTPUT_BYTES = 4096
MAX_MESSAGE_CHARACTERS = 200


class CheckStatus(Enum):
    """What is known of a check."""

    PENDING = "pending"
    OK = "ok"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The last outcome of a check; `message` is the first line that it wrote."""

    name: str
    status: CheckStatus
    message: str = ""

    def document(self) -> dict[str, Any]:
        """Return the result as the API shows it."""
        return {"name": self.name, "status": self.status.value, "message": self.message}


class Checks:
    """Runs the checks of the policy in force, and holds their last results."""

    def __init__(self, policy: PolicySource, rng: random.Random, log: Logger) -> None:
        self._policy = policy
        self._rng = rng
        self._log = log
        self._results: dict[str, CheckResult] = {}
        self._changed = asyncio.Event()
        policy.subscribe(self._policy_changed)

    def results(self) -> list[CheckResult]:
        """Return the last result of each check."""
        return list(self._results.values())

    async def run(self) -> None:
        """Run the checks at their intervals until cancelled; a changed policy starts them anew."""
        while True:
            self._changed.clear()
            rules = self._policy.current
            self._results = {check.name: CheckResult(check.name, CheckStatus.PENDING) for check in rules.checks}
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._until_changed())
                    for check in rules.checks:
                        group.create_task(self._repeat(check, rules))
            except* _ChangedError:
                pass

    async def _until_changed(self) -> None:
        await self._changed.wait()
        raise _ChangedError

    async def _repeat(self, check: CheckRules, policy: Policy) -> None:
        while True:
            result = await run_check(check, default_user(policy.commands.run_as))
            before = self._results.get(check.name)
            self._results[check.name] = result
            if before is None or before.status is not result.status:
                self._log.info("check.changed", check=check.name, status=result.status.value, message=result.message)
            await asyncio.sleep(check.interval_seconds * self._rng.uniform(0.9, 1.1))

    def _policy_changed(self, policy: Policy) -> None:
        self._changed.set()


class _ChangedError(Exception):
    """The policy has changed."""


async def run_check(check: CheckRules, user: str | None) -> CheckResult:
    """Run one check once, for as long as it may take; if cancelled, its process is gone when this returns."""
    output = _FirstBytes()
    try:
        process = await Process.start(_plan(check, user), output, _FirstBytes())
    except StartFailed as error:
        return CheckResult(check.name, CheckStatus.FAILED, str(error)[:MAX_MESSAGE_CHARACTERS])
    try:
        await asyncio.wait({process.exited}, timeout=check.timeout_seconds)
        in_time = process.exited.done()
    finally:
        process.signal_group(signal.SIGKILL)
        ending = await process.finish()
    if not in_time:
        message = f"it did not end within {check.timeout_seconds:g} s"
        return CheckResult(check.name, CheckStatus.FAILED, message)
    return CheckResult(check.name, CheckStatus.OK if ending.well else CheckStatus.FAILED, output.first_line())


class _FirstBytes:
    """Keeps the beginning of what a process writes."""

    def __init__(self) -> None:
        self._kept = b""

    def append(self, chunk: bytes) -> None:
        self._kept += chunk[: MAX_OUTPUT_BYTES - len(self._kept)]

    def finish(self) -> None:
        pass

    def first_line(self) -> str:
        line = self._kept.decode("utf-8", "replace").strip().partition("\n")[0]
        return "".join(character for character in line if character.isprintable())[:MAX_MESSAGE_CHARACTERS]


def _plan(check: CheckRules, user: str | None) -> ProcessPlan:
    return ProcessPlan(
        argv=list(check.argv),
        environment={"TRUNKLINE_CHECK": check.name},
        working_directory="/",
        user=user,
        stdin=None,
    )
