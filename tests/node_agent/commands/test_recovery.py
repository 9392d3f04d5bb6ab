"""What a new agent makes of what it finds: every place where the one before it, or a supervisor, may have died."""

import asyncio
import json
import os
import resource
import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from node_agent.commands.command import Command
from node_agent.commands.ledger import CommandBounds
from node_agent.commands.proc import RUN_VARIABLE
from node_agent.commands.records import RECORD_FILE, OutputStream
from node_agent.commands.states import CommandState
from node_agent.commands.submission import Submission
from node_agent.commands.submitter import Submitter
from node_agent.commands.supervisor_process import SupervisorProcess
from node_agent.supervisor.records import CLAIM_FILE, claim, open_directory
from node_agent.supervisor.tree import start_ticks
from tests.support.supervisors import Supervised, alive, plan

CALLER = Submitter("operator")


def sh(script, **fields):
    return Submission(argv=["sh", "-c", script], **fields)


@pytest.fixture
def ended(until):
    async def wait(command: Command) -> None:
        await until(lambda: command.spooled and not command.unsaved and not command._saving.locked())

    return wait


@pytest.fixture
async def successor(make_ledger):
    """Make the agent after this one, on the same directory."""

    async def make(bounds: CommandBounds | None = None):
        ledger = make_ledger(bounds)
        await ledger.open()
        return ledger

    return make


async def output(ledger, command, stream=OutputStream.STDOUT, *, follow=False):
    with command.spool(stream, ledger.store).reader() as reader:
        return b"".join([chunk async for chunk in reader.chunks(0, follow=follow)])


def record_of(tmp_path, command_id):
    return json.loads((tmp_path / "commands" / command_id / RECORD_FILE).read_bytes())


def claim_of(tmp_path, command_id):
    return json.loads((tmp_path / "commands" / command_id / CLAIM_FILE).read_bytes())


def narrow(policy_file, policy, rules):
    first = policy_file.read_text().splitlines()[:2]
    policy_file.write_text("\n".join([*(first or ["[commands]"]), rules]))
    assert policy.reload()


def crashed_record(command_id, **fields):
    record = {
        "command_id": command_id,
        "fingerprint": "f",
        "argv": ["sleep", "60"],
        "submit_time": 1,
        "submitted_by": "operator",
        "run_id": f"run-{command_id}",
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "state": "RUNNING",
    }
    return record | fields


def write_record(tmp_path, record):
    directory = tmp_path / "commands" / record["command_id"]
    directory.mkdir(parents=True)
    (directory / RECORD_FILE).write_text(json.dumps(record))
    (directory / "stdout").write_bytes(b"partial")


@contextmanager
def leftover(run_id="none"):
    process = subprocess.Popen(["sleep", "60"], start_new_session=True, env={RUN_VARIABLE: run_id})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def test_after_a_crash_what_ran_is_lost_and_its_processes_are_killed(make_ledger, tmp_path):
    with leftover("run-marked") as marked, leftover() as recorded, leftover() as stranger:
        write_record(tmp_path, crashed_record("marked"))
        write_record(tmp_path, crashed_record("recorded", pid=recorded.pid, pid_start_ticks=start_ticks(recorded.pid)))
        write_record(
            tmp_path, crashed_record("stranger", pid=stranger.pid, pid_start_ticks=(start_ticks(stranger.pid) or 0) + 1)
        )
        write_record(tmp_path, crashed_record("waiting", state="QUEUED"))
        write_record(tmp_path, crashed_record("rebooted", boot_id="another"))
        ledger = make_ledger()
        await ledger.open()
        assert marked.wait(30) == recorded.wait(30) == -signal.SIGKILL
        assert stranger.poll() is None
    reasons = {command.command_id: command.document()["reason"] for command in ledger}
    assert all(command.state is CommandState.LOST for command in ledger)
    assert "agent ended" in reasons["recorded"]
    assert "never" not in reasons["recorded"]
    assert "before the command was started" in reasons["waiting"]
    assert "booted" in reasons["rebooted"]
    assert ledger.get("recorded").document()["stdout_bytes"] == 7
    assert record_of(tmp_path, "recorded")["state"] == "LOST"


async def test_what_a_crash_left_half_made_is_cleared(make_ledger, tmp_path):
    (tmp_path / "commands" / "half").mkdir(parents=True)
    (tmp_path / "commands" / "half" / ".record.json.abc").write_bytes(b"{")
    (tmp_path / "commands" / "bad").mkdir()
    (tmp_path / "commands" / "bad" / RECORD_FILE).write_bytes(b"{")
    ledger = make_ledger()
    await ledger.open()
    assert [command.command_id for command in ledger] == ["bad"]
    assert ledger.get("bad").state is CommandState.LOST
    assert not (tmp_path / "commands" / "half").exists()


async def test_a_command_that_runs_is_followed_by_the_next_agent_to_its_end(ledger, successor, tmp_path, until, ended):
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    script = f"echo before; touch {tmp_path}/here; cat {hold}; echo after; exit 5"
    await ledger.submit("one", sh(script), CALLER)
    await until(lambda: (tmp_path / "here").exists() and record_of(tmp_path, "one")["state"] == "RUNNING")
    await ledger.stop()
    again = await successor()
    command = again.get("one")
    assert command.state is CommandState.RUNNING
    following = asyncio.create_task(output(again, command, follow=True))
    await asyncio.to_thread(hold.write_bytes, b"meanwhile\n")
    assert await following == b"before\nmeanwhile\nafter\n"
    await ended(command)
    assert (command.state, command.document()["exit_code"]) == (CommandState.FAILED, 5)
    assert (await successor()).get("one").document() == command.document()


async def test_a_command_that_ended_while_there_was_no_agent_ended_so(ledger, successor, tmp_path, until):
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    await ledger.submit("one", sh(f"echo out; cat {hold}; exit 7"), CALLER)
    await until(lambda: record_of(tmp_path, "one")["state"] == "RUNNING")
    await ledger.stop()
    await asyncio.to_thread(hold.write_bytes, b"")
    await until(lambda: not alive(claim_of(tmp_path, "one")["pid"]))
    again = await successor()
    document = again.get("one").document()
    assert (document["state"], document["exit_code"], document["stdout_bytes"]) == ("FAILED", 7, 4)
    assert document["start_time"] <= document["end_time"]
    assert record_of(tmp_path, "one")["state"] == "FAILED"


async def test_a_cancel_reaches_a_command_that_was_adopted(ledger, successor, tmp_path, until, ended):
    await ledger.submit("one", sh(f"touch {tmp_path}/here; sleep 60"), CALLER)
    await until((tmp_path / "here").exists)
    await ledger.stop()
    again = await successor()
    await again.cancel("one", "someone")
    await ended(again.get("one"))
    document = again.get("one").document()
    assert (document["state"], document["reason"]) == ("CANCELLED", "cancelled by someone")


async def test_a_cancel_that_was_told_before_the_agent_died_is_one_for_the_next(ledger, successor, tmp_path, until):
    await ledger.submit(
        "one", sh(f"trap '' TERM; touch {tmp_path}/here; sleep 60; sleep 60", grace_seconds=0.3), CALLER
    )
    await until((tmp_path / "here").exists)
    await ledger.cancel("one", "someone")
    await ledger.stop()
    await until(lambda: not alive(claim_of(tmp_path, "one")["pid"]))
    document = (await successor()).get("one").document()
    assert (document["state"], document["reason"], document["signal"]) == ("CANCELLED", "cancelled by someone", 9)


async def test_what_waits_is_started_by_the_next_agent_and_once(
    ledger, successor, policy_file, policy, tmp_path, until, ended
):
    narrow(policy_file, policy, "max_concurrent = 1")
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    await ledger.submit("one", sh(f"touch {tmp_path}/here; cat {hold}"), CALLER)
    later = sh(f"cat >> {tmp_path}/ran; echo $SECRET >> {tmp_path}/ran", environment={"SECRET": "s"}, stdin=b"in\n")
    await ledger.submit("two", later, CALLER)
    kept = tmp_path / "commands" / "two" / "plan.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "commands" / "one" / "plan.json").exists(), "what starts at once is not on the disk"
    await until((tmp_path / "here").exists)
    await ledger.stop()
    again = await successor()
    assert again.counts() == (1, 1)
    await asyncio.to_thread(hold.write_bytes, b"")
    await ended(again.get("two"))
    assert (tmp_path / "ran").read_bytes() == b"in\ns\n"
    assert not kept.exists()
    await ended(again.get("one"))
    await successor()
    assert (tmp_path / "ran").read_bytes() == b"in\ns\n"


async def test_what_waits_can_be_cancelled_after_a_restart(ledger, successor, policy_file, policy, tmp_path, until):
    narrow(policy_file, policy, "max_concurrent = 1")
    await ledger.submit("one", sh("sleep 60"), CALLER)
    await ledger.submit("two", sh(f"touch {tmp_path}/ran"), CALLER)
    await ledger.stop()
    again = await successor()
    await again.cancel("two", "someone")
    assert (await successor()).get("two").state is CommandState.CANCELLED
    assert not (tmp_path / "ran").exists()


async def test_a_supervisor_that_comes_up_after_its_command_was_given_up_starts_nothing(successor, tmp_path):
    write_record(tmp_path, crashed_record("one", state="QUEUED"))
    again = await successor()
    assert again.get("one").document()["reason"] == "the agent ended before the command was started"
    with Supervised(tmp_path / "commands" / "one", plan("touch", str(tmp_path / "ran"))) as late:
        assert late.wait() == 4
    assert not (tmp_path / "ran").exists()


async def test_a_supervisor_that_was_faster_than_the_next_agent_is_followed(successor, tmp_path, ended):
    record = crashed_record("one", state="QUEUED")
    write_record(tmp_path, record)
    with Supervised(tmp_path / "commands" / "one", plan("sleep", "60", run_id=record["run_id"])) as supervised:
        await asyncio.to_thread(supervised.hears, "started")
        supervised.hang_up()
        again = await successor()
        assert again.get("one").state is CommandState.RUNNING
        await again.cancel("one", "someone")
        await ended(again.get("one"))
        assert again.get("one").state is CommandState.CANCELLED


async def test_when_the_supervisor_is_killed_its_command_is_lost_and_nothing_is_left(ledger, tmp_path, until, ended):
    script = (
        f"(trap '' TERM; setsid sleep 61 & echo $!; setsid env -i sleep 61 & echo $!); touch {tmp_path}/here; sleep 61"
    )
    command, _ = await ledger.submit("one", sh(script), CALLER)
    await until((tmp_path / "here").exists)
    spooled = tmp_path / "commands" / "one" / "stdout"
    await until(lambda: command.record.pid is not None and spooled.read_bytes().count(b"\n") == 2)
    claimed = claim_of(tmp_path, "one")
    os.kill(claimed["pid"], signal.SIGKILL)
    await ended(command)
    assert command.state is CommandState.LOST
    assert "its supervisor ended" in command.document()["reason"]
    pids = [int(line) for line in (await output(ledger, command)).split()]
    assert len(pids) == 2
    await until(lambda: not any(alive(pid) for pid in [*pids, command.record.pid]))
    assert claimed["groups"]
    assert not any(os.access(directory, os.F_OK) for directory in claimed["groups"].values())


async def test_when_agent_and_supervisor_are_killed_the_next_agent_clears_up(ledger, successor, tmp_path, until):
    command, _ = await ledger.submit("one", sh("setsid sleep 61 & echo $!; sleep 61"), CALLER)
    await until(lambda: command.record.stdout_bytes > 0)
    await ledger.stop()
    os.kill(claim_of(tmp_path, "one")["pid"], signal.SIGKILL)
    again = await successor()
    await until(lambda: again.get("one").state is CommandState.LOST)
    left = int(await output(again, again.get("one")))
    await until(lambda: not alive(left))  # a process that is killed is gone when the kernel has had time for it


async def test_a_record_that_was_damaged_while_its_command_ran_ends_it(ledger, successor, tmp_path, until):
    command, _ = await ledger.submit("one", sh("setsid sleep 61 & echo $!; sleep 61"), CALLER)
    await until(lambda: command.record.stdout_bytes > 0)
    await ledger.stop()
    (tmp_path / "commands" / "one" / RECORD_FILE).write_bytes(b"{")
    assert (await successor()).get("one").state is CommandState.LOST
    left = int((tmp_path / "commands" / "one" / "stdout").read_bytes())
    await until(lambda: not alive(left))


async def test_a_directory_that_is_deleted_while_its_command_runs_leaves_it_lost(ledger, tmp_path, until):
    command, _ = await ledger.submit("one", sh(f"while ! test -e {tmp_path}/go; do sleep 0.02; done"), CALLER)
    await until(lambda: command.state is CommandState.RUNNING)
    directory = tmp_path / "commands" / "one"
    while directory.exists():  # its supervisor may write there at the same moment
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
    (tmp_path / "go").touch()
    await until(lambda: command.state is CommandState.LOST)


async def test_a_cancel_that_was_recorded_and_not_told_is_told_by_the_next_agent(successor, tmp_path, until):
    record = crashed_record("one", state="CANCELLING", reason="cancelled by someone")
    write_record(tmp_path, record)
    with Supervised(tmp_path / "commands" / "one", plan("sleep", "60", run_id=record["run_id"])) as supervised:
        await asyncio.to_thread(supervised.hears, "started")
        supervised.hang_up()
        again = await successor()
        await until(lambda: again.get("one").state is CommandState.CANCELLED)
        assert again.get("one").document()["reason"] == "cancelled by someone"


async def test_a_plan_that_was_being_written_when_the_agent_was_killed_goes_with_its_command(successor, tmp_path):
    write_record(tmp_path, crashed_record("one", state="QUEUED"))
    half = tmp_path / "commands" / "one" / ".plan.json.0123456789abcdef"
    half.write_bytes(b'{"environment":{"PASSWORD":"hunter2"')
    assert (await successor()).get("one").state is CommandState.LOST
    assert not half.exists()


async def test_after_a_reboot_nobody_is_taken_for_what_ran_before_it(successor, tmp_path):
    with leftover("run-one") as stranger:
        same = {"pid": stranger.pid, "pid_start_ticks": start_ticks(stranger.pid)}
        write_record(tmp_path, crashed_record("one", boot_id="another", **same))
        assert (await successor()).get("one").state is CommandState.LOST
        assert stranger.poll() is None


@pytest.mark.parametrize(
    "put",
    [
        lambda path: path.symlink_to("/proc/self/mem"),  # whose first bytes cannot be read: EIO
        os.mkfifo,
    ],
)
async def test_a_record_that_the_disk_does_not_give_is_a_damaged_one(successor, tmp_path, put):
    write_record(tmp_path, crashed_record("one"))
    path = tmp_path / "commands" / "one" / RECORD_FILE
    path.unlink()
    put(path)
    assert (await successor()).get("one").state is CommandState.LOST
    assert record_of(tmp_path, "one")["reason"] == "its record on the disk was damaged"


@pytest.mark.parametrize("left", [0, 1])
async def test_a_supervisor_is_not_taken_for_ended_for_want_of_descriptors(tmp_path, left):
    with Supervised(tmp_path / "one", plan("sleep", "60")) as supervised:
        await asyncio.to_thread(supervised.hears, "started")
        claimed = supervised.claim()
        with no_descriptors(but=left), pytest.raises(OSError, match="Too many open files"):
            SupervisorProcess.find(supervised.directory, claimed, lambda _: None)


@contextmanager
def no_descriptors(but=0):
    """Let no descriptor be had, but for so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open("/dev/null", os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + but if but else 0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_number_that_was_given_to_another_process_is_not_taken_for_the_supervisor(successor, tmp_path):
    with leftover() as stranger:
        write_record(tmp_path, crashed_record("one"))
        directory = open_directory(tmp_path / "commands" / "one")
        assert claim(directory, {"pid": stranger.pid, "start_ticks": (start_ticks(stranger.pid) or 0) + 1})
        os.close(directory)
        assert (await successor()).get("one").state is CommandState.LOST
        assert stranger.poll() is None
