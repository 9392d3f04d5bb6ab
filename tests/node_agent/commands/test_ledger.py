import asyncio
import json
import os
import resource
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from node_agent.commands import ledger as ledger_module
from node_agent.commands import run, supervisor_process
from node_agent.commands.command import Command
from node_agent.commands.errors import CommandRefused, RefusalReason
from node_agent.commands.ledger import CommandBounds
from node_agent.commands.records import PLAN_FILE, RECORD_FILE, OutputStream
from node_agent.commands.retention import LASTING_SECONDS, RetentionBounds
from node_agent.commands.states import CommandState
from node_agent.commands.submission import Submission
from node_agent.commands.submitter import Submitter
from node_agent.supervisor import launch
from node_agent.supervisor.records import ENDING_FILE
from tests.support.still_disk import a_disk_that_stands_still
from tests.support.supervisors import end_commands
from trunkline.runtime.clock import ManualClock

CALLER = Submitter("operator")


def sh(script, **fields):
    return Submission(argv=["sh", "-c", script], **fields)


@pytest.fixture
def ended(until):
    async def wait(command: Command) -> None:
        await until(lambda: command.spooled and not command.unsaved and not command._saving.locked())

    return wait


async def output(ledger, command, stream=OutputStream.STDOUT, *, follow=False):
    with command.spool(stream, ledger.store).reader() as reader:
        return b"".join([chunk async for chunk in reader.chunks(0, follow=follow)])


def record_of(tmp_path, command_id):
    return json.loads((tmp_path / "commands" / command_id / RECORD_FILE).read_bytes())


async def test_a_command_runs_and_is_remembered(ledger, meter, tmp_path, ended, until):
    command, created = await ledger.submit("one", sh("echo hello; exit 4"), CALLER)
    assert created
    await ended(command)
    document = command.document()
    assert (document["state"], document["exit_code"], document["stdout_bytes"]) == ("FAILED", 4, 6)
    assert document["submit_time"] <= document["start_time"] <= document["end_time"]
    assert await output(ledger, command) == b"hello\n"
    assert record_of(tmp_path, "one")["state"] == "FAILED"
    await until(lambda: bool(meter.endings))
    assert (meter.taken, meter.endings) == (1, [CommandState.FAILED])


async def test_the_intent_is_on_the_disk_when_submit_returns(ledger, tmp_path):
    await ledger.submit("one", sh("true"), CALLER)
    assert record_of(tmp_path, "one")["argv"] == ["sh", "-c", "true"]


async def test_what_a_submit_may_hold_is_read_again(ledger, tmp_path, make_ledger, ended):
    huge = Submission(argv=["true", *["\u00e9" * 100_000] * 36])
    command, _ = await ledger.submit("one", huge, CALLER)
    await ended(command)
    again = make_ledger()
    await again.open()
    assert again.get("one").state is CommandState.FAILED, "too long for the kernel, not for its record"


async def test_secrets_in_environment_and_input_are_not_recorded(ledger, tmp_path, ended):
    command, _ = await ledger.submit("one", sh("true", environment={"PASSWORD": "hunter2"}, stdin=b"hunter3"), CALLER)
    await ended(command)
    assert b"hunter" not in (tmp_path / "commands" / "one" / RECORD_FILE).read_bytes()


async def test_the_same_id_and_body_is_the_same_command(ledger, tmp_path, ended):
    counted = sh(f"echo >> {tmp_path}/count")
    first, _ = await ledger.submit("one", counted, CALLER)
    await ended(first)
    second, created = await ledger.submit("one", counted, CALLER)
    assert second is first
    assert not created
    assert (tmp_path / "count").read_bytes() == b"\n"


async def test_submits_at_the_same_moment_run_once(ledger, tmp_path, ended):
    counted = sh(f"echo >> {tmp_path}/count")
    answers = await asyncio.gather(*[ledger.submit("one", counted, CALLER) for _ in range(20)])
    assert sum(created for _, created in answers) == 1
    await ended(answers[0][0])
    assert (tmp_path / "count").read_bytes() == b"\n"


async def test_the_same_id_with_another_body_is_refused(ledger):
    await ledger.submit("one", sh("true"), CALLER)
    with pytest.raises(CommandRefused) as refused:
        await ledger.submit("one", sh("false"), CALLER)
    assert refused.value.reason is RefusalReason.OTHER_BODY


async def test_a_token_is_used_for_one_command_only(ledger, make_ledger, ended):
    once = Submitter("operator", token_id="jti-1", replayable_until=2**33)
    first, _ = await ledger.submit("one", sh("true"), once)
    assert (await ledger.submit("one", sh("true"), once))[0] is first
    with pytest.raises(CommandRefused) as refused:
        await ledger.submit("two", sh("true"), once)
    assert refused.value.reason is RefusalReason.REPLAYED_TOKEN
    await ended(first)
    after_restart = make_ledger()
    await after_restart.open()
    with pytest.raises(CommandRefused):
        await after_restart.submit("two", sh("true"), once)


async def test_a_second_token_for_the_same_command_is_used_up_too(ledger):
    await ledger.submit("one", sh("true"), Submitter("operator", "jti-1", 2**33))
    await ledger.submit("one", sh("true"), Submitter("operator", "jti-2", 2**33))
    with pytest.raises(CommandRefused):
        await ledger.submit("two", sh("true"), Submitter("operator", "jti-2", 2**33))
    await ledger.submit("two", sh("true"), CALLER)
    with pytest.raises(CommandRefused) as refused:
        await ledger.submit("two", sh("true"), Submitter("operator", "jti-2", 2**33))
    assert refused.value.reason is RefusalReason.REPLAYED_TOKEN, "no more for one that is there"


@pytest.mark.parametrize("bound", [False, True])
async def test_a_token_that_the_disk_does_not_take_is_refused_each_time_until_it_does(ledger, tmp_path, ended, bound):
    command, _ = await ledger.submit("one", sh("true"), Submitter("operator", "jti-1", 2**33))
    await ended(command)
    later = Submitter("operator", "jti-2", 2**33 + 1, bound=bound)
    for _ in range(2):
        with no_room_for_files(), pytest.raises(CommandRefused) as refused:
            await ledger.submit("one", sh("true"), later)
        assert refused.value.reason is RefusalReason.NO_STORAGE
    assert (await ledger.submit("one", sh("true"), later))[0] is command
    assert record_of(tmp_path, "one")["token_ids"] == {"jti-1": 2**33, "jti-2": 2**33 + 1}


async def test_of_two_who_bring_the_same_token_neither_is_answered_before_it_is_on_the_disk(ledger, ended):
    command, _ = await ledger.submit("one", sh("true"), CALLER)
    await ended(command)
    with a_disk_that_stands_still() as disk:
        submits = [
            asyncio.create_task(ledger.submit("one", sh("true"), Submitter("operator", "jti", 2**33))) for _ in range(2)
        ]
        await disk.asked()
        assert not any(submit.done() for submit in submits)
        disk.move()
        await asyncio.gather(*submits)


async def test_a_command_remembers_so_many_tokens_that_are_live(ledger, monkeypatch):
    monkeypatch.setattr(ledger_module, "MAX_TOKENS_OF_A_COMMAND", 2)
    await ledger.submit("one", sh("true"), Submitter("operator", "expired", 1))
    for token_id in ("jti-1", "jti-2"):
        await ledger.submit("one", sh("true"), Submitter("operator", token_id, 2**33))
    with pytest.raises(CommandRefused) as refused:
        await ledger.submit("one", sh("true"), Submitter("operator", "jti-3", 2**33))
    assert refused.value.reason is RefusalReason.TOO_MANY
    await ledger.submit("one", sh("true"), Submitter("operator", "jti-2", 2**33))


async def test_the_tokens_of_a_bound_submit_are_not_counted_once_its_command_is_remembered_for_long_enough(
    ledger, tmp_path
):
    for number in range(200):
        await ledger.submit("one", sh("true"), Submitter("operator", f"jti-{number}", 2**33, bound=True))
    assert list(record_of(tmp_path, "one")["token_ids"]) == ["jti-0"]
    await ledger.submit("one", sh("true"), Submitter("operator", "later", 2**33 + 1, bound=True))
    assert record_of(tmp_path, "one")["token_ids"]["later"] == 2**33 + 1


async def test_only_tokens_that_name_body_and_command_satisfy_an_owner_who_asks_for_them(ledger, policy_file, policy):
    narrow(policy_file, policy, "require_body_binding = true")
    with pytest.raises(CommandRefused, match="command_id"):
        await ledger.submit("one", sh("true"), Submitter("operator", "jti-1", 2**33))
    assert (await ledger.submit("one", sh("true"), Submitter("operator", "jti-1", 2**33, bound=True)))[1]


async def test_a_command_is_remembered_while_its_submit_could_be_replayed(make_ledger, ended):
    bounds = CommandBounds(retention=RetentionBounds(commands=1, age_seconds=0))
    ledger = make_ledger(bounds)
    await ledger.open()
    bound = Submitter("operator", "jti-1", 2**33, bound=True)
    await ended((await ledger.submit("one", sh("true"), bound))[0])
    await ended((await ledger.submit("two", sh("true"), Submitter("operator", "jti-2", 1, bound=True)))[0])
    await ledger.keep_house()
    after_restart = make_ledger(bounds)
    await after_restart.open()
    assert [command.command_id for command in after_restart] == ["one"]
    assert not (await after_restart.submit("one", sh("true"), Submitter("operator", "jti-3", 2**33, bound=True)))[1]


async def test_a_command_whose_record_is_damaged_cannot_be_replayed_either(make_ledger, tmp_path, ended):
    bounds = CommandBounds(retention=RetentionBounds(commands=0, age_seconds=0))
    ledger = make_ledger(bounds)
    await ledger.open()
    once = Submitter("operator", "jti-1", 2**33, bound=True)
    await ended((await ledger.submit("one", sh("true"), once))[0])
    (tmp_path / "commands" / "one" / RECORD_FILE).write_bytes(b"{")
    after_restart = make_ledger(bounds)
    await after_restart.open()
    await after_restart.keep_house()
    with pytest.raises(CommandRefused) as refused:
        await after_restart.submit("one", sh("true"), once)
    assert refused.value.reason is RefusalReason.OTHER_BODY


async def test_no_command_is_taken_that_could_not_be_remembered(make_ledger, ended):
    ledger = make_ledger(CommandBounds(retention=RetentionBounds(commands=1, age_seconds=0, replayable=1)))
    await ledger.open()
    first = Submitter("operator", "jti-1", 2**33, bound=True)
    await ended((await ledger.submit("one", sh("true"), first))[0])
    await ended((await ledger.submit("two", sh("true"), CALLER))[0])
    with pytest.raises(CommandRefused) as refused:
        await ledger.submit("three", sh("true"), CALLER)
    assert refused.value.reason is RefusalReason.TOO_MANY
    assert not (await ledger.submit("one", sh("true"), first))[1]
    await ledger.keep_house()
    assert (await ledger.submit("three", sh("true"), CALLER))[1]


async def test_a_caller_that_goes_away_does_not_stop_its_command(ledger, tmp_path, ended, until):
    submit = asyncio.create_task(ledger.submit("one", sh(f"touch {tmp_path}/ran"), CALLER))
    await asyncio.sleep(0)
    submit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submit
    await until(lambda: bool(list(ledger)))
    await ended(ledger.get("one"))
    assert (tmp_path / "ran").exists()


async def test_time_runs_out(ledger, ended):
    command, _ = await ledger.submit("one", sh("sleep 60", timeout_seconds=0.1), CALLER)
    await ended(command)
    assert command.state is CommandState.TIMED_OUT
    assert command.document()["signal"] == signal.SIGTERM
    assert "0.1 seconds" in command.document()["reason"]


async def test_cancel_while_it_runs(ledger, tmp_path, ended, until):
    command, _ = await ledger.submit("one", sh(f"touch {tmp_path}/here; sleep 60"), CALLER)
    await until(lambda: (tmp_path / "here").exists() and command.state is CommandState.RUNNING)
    assert (await ledger.cancel("one", "someone")).state in (CommandState.CANCELLING, CommandState.CANCELLED)
    await ended(command)
    assert command.state is CommandState.CANCELLED
    assert command.document()["reason"] == "cancelled by someone"
    assert (await ledger.cancel("one", "someone else")).document()["reason"] == "cancelled by someone"


async def test_cancel_at_once_wherever_it_is(ledger, ended):
    for delay_turns in range(12):
        command, _ = await ledger.submit(f"c{delay_turns}", sh("sleep 60"), CALLER)
        for _ in range(delay_turns):
            await asyncio.sleep(0.001)
        await ledger.cancel(command.command_id, "someone")
        await ended(command)
        assert command.state is CommandState.CANCELLED


async def test_cancel_of_what_waits(ledger, policy_file, policy, ended):
    narrow(policy_file, policy, "max_concurrent = 1")
    first, _ = await ledger.submit("one", sh("sleep 60"), CALLER)
    second, _ = await ledger.submit("two", sh("true"), CALLER)
    assert ledger.counts() == (1, 1)
    await ledger.cancel("two", "someone")
    assert second.state is CommandState.CANCELLED
    assert ledger.counts() == (1, 0)
    await ledger.cancel("one", "someone")
    await ended(first)


async def test_what_waits_lies_on_the_disk_until_its_turn_and_no_longer(ledger, policy_file, policy, tmp_path, ended):
    narrow(policy_file, policy, "max_concurrent = 1")
    first, _ = await ledger.submit("one", sh("sleep 60"), CALLER)
    wanted = sh("cat; echo $PASSWORD", stdin=b"hunter3 ", environment={"PASSWORD": "hunter2"})
    waiting, *_ = [(await ledger.submit(name, wanted, CALLER))[0] for name in ("two", "three")]
    plans = {name: tmp_path / "commands" / name / PLAN_FILE for name in ("one", "two", "three")}
    assert [plan.exists() for plan in plans.values()] == [False, True, True]
    assert not any(isinstance(one, tuple) for one in ledger._runs._waiting), "megabytes each are not held in memory"
    await ledger.cancel("three", "someone")
    assert not plans["three"].exists(), "what may be secret goes with the command"
    await ledger.cancel("one", "someone")
    await ended(first)
    await ended(waiting)
    assert await output(ledger, waiting) == b"hunter3 hunter2\n"
    assert not any(plan.exists() for plan in plans.values())


async def test_one_whose_plan_is_gone_says_so(ledger, policy_file, policy, tmp_path, ended):
    narrow(policy_file, policy, "max_concurrent = 1")
    first, _ = await ledger.submit("one", sh("sleep 60"), CALLER)
    second, _ = await ledger.submit("two", sh("true"), CALLER)
    (tmp_path / "commands" / "two" / PLAN_FILE).write_bytes(b"{")
    await ledger.cancel("one", "someone")
    await ended(first)
    await ended(second)
    assert second.state is CommandState.FAILED
    assert "cannot be read" in (second.record.reason or "")


async def test_the_queue_is_bounded_and_goes_on_in_order(ledger, policy_file, policy, tmp_path, ended):
    narrow(policy_file, policy, "max_concurrent = 1\nmax_queued = 2")
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    first, _ = await ledger.submit("one", sh(f"cat {hold}"), CALLER)
    rest = [(await ledger.submit(name, sh(f"echo {name} >> {tmp_path}/order"), CALLER))[0] for name in ("two", "three")]
    with pytest.raises(CommandRefused) as refused:
        await ledger.submit("four", sh("true"), CALLER)
    assert refused.value.reason is RefusalReason.TOO_MANY
    await asyncio.to_thread(hold.write_bytes, b"go")
    for command in (first, *rest):
        await ended(command)
    assert (tmp_path / "order").read_text().split() == ["two", "three"]


async def test_what_the_owner_does_not_allow_is_refused(ledger, policy_file, policy):
    cases = {
        "enabled = false": Submission(argv=["true"]),
        "allowed_subjects = ['another']": Submission(argv=["true"]),
        "require_body_binding = true": Submission(argv=["true"]),
        "run_as = 'nobody'": Submission(argv=["true"], user="daemon"),
    }
    for number, (rule, submission) in enumerate(cases.items()):
        narrow(policy_file, policy, rule)
        with pytest.raises(CommandRefused) as refused:
            await ledger.submit(f"c{number}", submission, CALLER)
        assert refused.value.reason is RefusalReason.POLICY
    assert not list(ledger)


async def test_timeouts_above_the_owners_are_cut(ledger, policy_file, policy):
    narrow(policy_file, policy, "max_timeout_seconds = 2.0\ndefault_timeout_seconds = 9.0")
    asked, _ = await ledger.submit("one", sh("true", timeout_seconds=100), CALLER)
    silent, _ = await ledger.submit("two", sh("true"), CALLER)
    assert asked.document()["timeout_seconds"] == silent.document()["timeout_seconds"] == 2.0


async def test_output_beyond_the_cap_is_marked(ledger, policy_file, policy, ended):
    narrow(policy_file, policy, "max_output_bytes = 1024")
    command, _ = await ledger.submit("one", sh("head -c 5000 /dev/zero; echo e >&2"), CALLER)
    await ended(command)
    document = command.document()
    assert (document["state"], document["stdout_bytes"], document["stdout_dropped_bytes"]) == ("SUCCEEDED", 1024, 3976)
    assert await output(ledger, command, OutputStream.STDERR) == b"e\n"


async def test_a_follower_sees_output_as_it_comes(ledger, tmp_path, ended, until):
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    command, _ = await ledger.submit("one", sh(f"touch {tmp_path}/here; echo first; cat {hold}"), CALLER)
    await until((tmp_path / "here").exists)
    with command.spool(OutputStream.STDOUT, ledger.store).reader() as reader:
        chunks = reader.chunks(0, follow=True)
        assert await anext(chunks) == b"first\n"
        await asyncio.to_thread(hold.write_bytes, b"second")
        assert b"".join([chunk async for chunk in chunks]) == b"second"
    await ended(command)


async def test_a_program_that_is_not_there(ledger, ended):
    command, _ = await ledger.submit("one", Submission(argv=["no-such-program"]), CALLER)
    await ended(command)
    assert command.state is CommandState.FAILED
    assert "No such file" in command.document()["reason"]
    assert "exit_code" not in command.document()


@pytest.fixture
def replaced_program(tmp_path, monkeypatch):
    """Have supervisors find no program, as while a release is installed, until the file that is returned is there."""
    installed, missed = tmp_path / "installed", tmp_path / "missed"
    guard = f"import os; os.path.exists({str(installed)!r}) or (open({str(missed)!r}, 'w'), exit(1)); "
    monkeypatch.setattr(launch, "PROGRAM", guard + launch.PROGRAM)
    return installed, missed


async def test_a_command_that_begins_while_the_program_is_replaced_is_started_later(
    ledger, replaced_program, ended, until
):
    installed, missed = replaced_program
    command, _ = await ledger.submit("one", sh("echo hello", stdin=b""), CALLER)
    await until(missed.exists)
    installed.touch()
    await ended(command)
    assert (command.state, await output(ledger, command)) == (CommandState.SUCCEEDED, b"hello\n")


async def test_a_command_whose_program_stays_away_says_what_to_do(ledger, replaced_program, ended, monkeypatch):
    monkeypatch.setattr(run, "LOADING_SECONDS", 0.0)
    command, _ = await ledger.submit("one", sh("true"), CALLER)
    await ended(command)
    assert command.state is CommandState.FAILED
    assert "start the agent again" in command.document()["reason"]


async def test_what_waits_for_the_program_is_left_to_the_next_agent(make_ledger, replaced_program, ended, until):
    installed, missed = replaced_program
    first = make_ledger()
    await first.open()
    await first.submit("one", sh("echo hello"), CALLER)
    await until(missed.exists)
    await first.stop()
    installed.touch()
    second = make_ledger()
    await second.open()
    command = second.get("one")
    await ended(command)
    assert (command.state, await output(second, command)) == (CommandState.SUCCEEDED, b"hello\n")


async def test_a_stop_takes_no_more_and_leaves_what_runs_alone(ledger):
    command, _ = await ledger.submit("one", sh("sleep 60"), CALLER)
    await ledger.stop()
    assert command.state is CommandState.RUNNING, "it is left once it has been started"
    with pytest.raises(CommandRefused) as refused:
        await ledger.submit("two", sh("true"), CALLER)
    assert refused.value.reason is RefusalReason.STOPPING


async def test_a_stop_waits_for_a_command_that_is_being_recorded_and_it_is_started(ledger):
    with a_disk_that_stands_still() as disk:
        submit = asyncio.create_task(ledger.submit("one", sh("sleep 60"), CALLER))
        await disk.asked()
        stopping = asyncio.create_task(ledger.stop())
        await asyncio.sleep(0)
        disk.move()
        command, _ = await submit
        await stopping
    assert command.state is CommandState.RUNNING, "the next agent would find no plan, and give it up"


async def test_commands_that_are_to_end_with_the_agent_are_lost_and_gone(make_ledger, tmp_path, until):
    ledger = make_ledger(CommandBounds(grace_seconds=30.0, outlive_agent=False))
    await ledger.open()
    script = f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; sleep 60"
    command, _ = await ledger.submit("one", sh(script), CALLER)
    await until((tmp_path / "pid").exists)
    await ledger.stop()
    assert (command.state, command.document()["reason"]) == (CommandState.LOST, "the agent ended it")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_a_stop_that_has_no_more_time_kills(make_ledger, tmp_path, until):
    ledger = make_ledger(CommandBounds(grace_seconds=60, outlive_agent=False))
    await ledger.open()
    command, _ = await ledger.submit("one", sh(f"trap '' TERM; touch {tmp_path}/here; sleep 60; sleep 60"), CALLER)
    await until((tmp_path / "here").exists)
    stopping = asyncio.ensure_future(ledger.stop())
    await asyncio.sleep(0.05)
    ledger.kill()
    async with asyncio.timeout(30):
        await stopping
    assert command.state is CommandState.LOST


@contextmanager
def no_room_for_files():
    """Let every write to a file fail, as a full disk does."""
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)


@contextmanager
def no_descriptors():
    """Let nothing be opened, as in an agent that has all the files that it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_an_end_that_cannot_be_read_for_want_of_descriptors_is_read_later(ledger, tmp_path, until, ended, logged):
    gate = tmp_path / "gate"
    command, _ = await ledger.submit("one", sh(f"while [ ! -e {gate} ]; do sleep 0.02; done; echo done"), CALLER)
    await until(lambda: command.state is CommandState.RUNNING)
    with no_descriptors():
        gate.mkdir()
        await until(
            lambda: command.state.terminal or "command.end_not_read" in [line["event"] for line in logged.entries]
        )
    await ended(command)
    assert command.document()["state"] == "SUCCEEDED"
    assert await output(ledger, command) == b"done\n"


async def test_an_agent_that_goes_while_it_cannot_read_an_end_leaves_it_to_the_next(
    make_ledger, tmp_path, until, ended, logged
):
    gate = tmp_path / "gate"
    ledger = make_ledger()
    await ledger.open()
    command, _ = await ledger.submit("one", sh(f"while [ ! -e {gate} ]; do sleep 0.02; done"), CALLER)
    await until(lambda: command.state is CommandState.RUNNING)
    with no_descriptors():
        gate.mkdir()
        await until(
            lambda: command.state.terminal or "command.end_not_read" in [line["event"] for line in logged.entries]
        )
        await ledger.stop()
    assert command.state is CommandState.RUNNING
    again = make_ledger()
    await again.open()
    assert again.get("one").state is CommandState.SUCCEEDED


async def test_a_full_disk_refuses_and_leaves_nothing(ledger, tmp_path, ended):
    with no_room_for_files(), pytest.raises(CommandRefused) as refused:
        await ledger.submit("one", sh(f"touch {tmp_path}/ran"), Submitter("operator", "jti", 2**33))
    assert refused.value.reason is RefusalReason.NO_STORAGE
    assert not list((tmp_path / "commands").iterdir())
    command, created = await ledger.submit("one", sh(f"touch {tmp_path}/ran"), Submitter("operator", "jti", 2**33))
    assert created
    await ended(command)
    assert command.state is CommandState.SUCCEEDED


async def test_an_end_that_could_not_be_recorded_is_recorded_later(ledger, tmp_path, until):
    command, _ = await ledger.submit("one", sh(f"touch {tmp_path}/here; sleep 60"), CALLER)
    await until(lambda: (tmp_path / "here").exists() and record_of(tmp_path, "one")["state"] == "RUNNING")
    with no_room_for_files():
        await ledger.cancel("one", "someone")
        await until(lambda: ledger.counts() == (0, 0))  # the end was tried to be recorded
    assert command.spooled
    assert record_of(tmp_path, "one")["state"] == "RUNNING"
    await ledger.keep_house()
    assert record_of(tmp_path, "one")["state"] == "CANCELLED"


async def test_what_was_cancelled_while_the_disk_was_full_is_not_started_by_the_next_agent(
    ledger, make_ledger, policy_file, policy, tmp_path
):
    narrow(policy_file, policy, "max_concurrent = 1")
    await ledger.submit("one", sh("sleep 60"), CALLER)
    await ledger.submit("two", sh(f"touch {tmp_path}/ran"), CALLER)
    with no_room_for_files():
        assert (await ledger.cancel("two", "someone")).state is CommandState.CANCELLED
    await end_commands(ledger)
    again = make_ledger()
    await again.open()
    assert again.get("two").state is CommandState.LOST
    assert not (tmp_path / "ran").exists()


async def test_a_cancel_that_leaves_no_trace_on_the_disk_is_said_to_be_none(ledger, policy_file, policy, tmp_path):
    narrow(policy_file, policy, "max_concurrent = 1")
    await ledger.submit("one", sh("sleep 60"), CALLER)
    await ledger.submit("two", sh("true"), CALLER)
    plan = tmp_path / "commands" / "two" / PLAN_FILE
    plan.unlink()
    plan.mkdir()  # which unlink(2) refuses, as it does everything on a disk that has become read-only
    with no_room_for_files(), pytest.raises(CommandRefused) as refused:
        await ledger.cancel("two", "someone")
    assert refused.value.reason is RefusalReason.NO_STORAGE


async def bring(ledger, content):
    async def chunks():
        yield content

    return await ledger.take_stdin("one", "operator", 0, chunks(), complete=True)


async def test_a_caller_that_goes_while_the_end_of_an_input_is_recorded_may_bring_it_again(
    ledger, tmp_path, until, ended
):
    command, _ = await ledger.submit("one", sh("cat", stdin_stream=True), CALLER)
    await until(lambda: record_of(tmp_path, "one")["state"] == "RUNNING" and not command._saving.locked())
    with a_disk_that_stands_still() as disk:
        bringing = asyncio.create_task(bring(ledger, b"all"))
        await disk.asked()
        disk.move_once()  # the content is there
        await disk.asked()
        bringing.cancel()
        disk.move()
        with pytest.raises(asyncio.CancelledError):
            await bringing
    assert (await bring(ledger, b"all")).whole
    await ended(command)
    assert await output(ledger, command) == b"all"


async def test_an_input_of_which_not_all_was_taken_is_not_complete(ledger):
    command, _ = await ledger.submit("one", sh("sleep 60", stdin_stream=True), CALLER)
    command.stdin(ledger.store).passed(0, False)
    assert not (await bring(ledger, b"all")).whole
    assert "stdin_bytes" not in command.document()


async def test_whom_the_owner_allows_no_more_neither_cancels_a_command_nor_brings_its_input(
    ledger, policy_file, policy
):
    command, _ = await ledger.submit("one", sh("cat", stdin_stream=True), CALLER)
    narrow(policy_file, policy, "allowed_subjects = ['another']")
    for refused in (ledger.cancel("one", "operator"), bring(ledger, b"all")):
        with pytest.raises(CommandRefused, match="does not allow this caller"):
            await refused
    assert not command.state.terminal
    assert command.stdin(ledger.store).size_bytes() == 0


async def test_an_input_whose_end_the_disk_does_not_take_is_not_complete(ledger, tmp_path, until, ended):
    command, _ = await ledger.submit("one", sh("cat", stdin_stream=True), CALLER)
    await until(lambda: record_of(tmp_path, "one")["state"] == "RUNNING" and not command.unsaved)
    with no_room_for_files(), pytest.raises(CommandRefused) as refused:
        await bring(ledger, b"")
    assert refused.value.reason is RefusalReason.NO_STORAGE
    assert "stdin_bytes" not in command.document()
    await bring(ledger, b"all")
    await ended(command)
    assert await output(ledger, command) == b"all"


async def test_what_an_end_leaves_that_could_not_be_recorded_goes_once_it_is(ledger, policy_file, policy, tmp_path):
    narrow(policy_file, policy, "max_concurrent = 1")
    await ledger.submit("one", sh("sleep 60"), CALLER)
    await ledger.submit("two", sh("true", stdin_stream=True), CALLER)
    with no_room_for_files():
        await ledger.cancel("two", "someone")
    await ledger.keep_house()
    assert [path.name for path in (tmp_path / "commands" / "two").iterdir()] == [RECORD_FILE]


async def test_a_supervisor_that_does_not_take_its_plan_in_time_starts_nothing(ledger, tmp_path, ended, monkeypatch):
    spawned: list[int] = []

    def spawn_and_stop(directory, theirs):
        spawned.append(launch.spawn(directory, theirs))
        os.kill(spawned[0], signal.SIGSTOP)
        os.waitid(os.P_PID, spawned[0], os.WSTOPPED | os.WNOWAIT)
        return spawned[0]

    def send_in_vain(connected, plan, send=supervisor_process._send):
        try:
            send(connected, plan)
        finally:
            os.kill(spawned[0], signal.SIGCONT)

    monkeypatch.setattr(supervisor_process, "SEND_SECONDS", 0.0)
    monkeypatch.setattr(supervisor_process, "spawn", spawn_and_stop)
    monkeypatch.setattr(supervisor_process, "_send", send_in_vain)
    command, _ = await ledger.submit("one", sh(f"touch {tmp_path}/ran", stdin=b"x" * 4_000_000), CALLER)
    await ended(command)
    assert command.state is CommandState.FAILED
    assert not (tmp_path / "ran").exists()


async def test_a_supervisor_that_waits_for_the_disk_to_take_the_end_has_time_for_that(
    ledger, tmp_path, until, ended, monkeypatch
):
    monkeypatch.setattr(run, "PATIENCE_SECONDS", 0.05)
    gate = tmp_path / "gate"
    waiting = sh(f"while [ ! -e {gate} ]; do sleep 0.02; done", grace_seconds=0)
    command, _ = await ledger.submit("one", waiting, CALLER)
    await until(lambda: command.state is CommandState.RUNNING)
    ending = tmp_path / "commands" / "one" / ENDING_FILE
    (ending / "in-the-way").mkdir(parents=True)
    gate.touch()
    await until(lambda: ledger._runs._runs["one"]._supervisor.over)
    await ledger.cancel("one", "someone")
    await asyncio.sleep(0.3)  # well over the patience
    shutil.rmtree(ending)
    await ended(command)
    assert (command.state, command.document()["exit_code"]) == (CommandState.CANCELLED, 0)


async def test_what_ended_by_a_clock_that_was_ahead_does_not_push_out_what_ends_now(make_ledger, tmp_path, ended):
    ledger = make_ledger(CommandBounds(retention=RetentionBounds(commands=1)))
    await ledger.open()
    for name in ("one", "two"):
        await ended((await ledger.submit(name, sh("true"), CALLER))[0])
    ledger.get("one").record.end_time += 365 * 86400 * 1000
    await ledger.keep_house()
    assert [command.command_id for command in ledger] == ["two"]


async def test_a_clock_that_is_ahead_for_a_moment_makes_nothing_be_forgotten(make_ledger, ended):
    clock = ManualClock(now=time.time())
    ledger = make_ledger(clock=clock)
    await ledger.open()
    submitter = Submitter("operator", "jti", int(clock.now()) + 900)
    await ended((await ledger.submit("one", sh("true"), submitter))[0])
    clock.jump(30 * 86400)
    await ledger.keep_house()
    clock.jump(-30 * 86400)
    _, created = await ledger.submit("one", sh("true"), submitter)
    assert not created, "it would run twice"
    clock.jump(30 * 86400)
    await ledger.keep_house()
    clock.advance(LASTING_SECONDS + 1)
    await ledger.keep_house()
    assert not list(ledger), "a step that lasts is one of time"


async def test_a_clock_that_is_ahead_at_the_start_makes_nothing_be_forgotten_either(make_ledger, ended):
    """As on a machine that boots before it is given the time."""
    clock = ManualClock(now=time.time())
    ledger = make_ledger(CommandBounds(retention=RetentionBounds(commands=1)), clock=clock)
    await ledger.open()
    submitter = Submitter("operator", "jti", int(clock.now()) + 900)
    await ended((await ledger.submit("one", sh("true"), submitter))[0])
    clock.jump(30 * 86400)
    booted = make_ledger(CommandBounds(retention=RetentionBounds(commands=1)), clock=clock)
    await booted.open()
    await booted.keep_house()
    clock.jump(-30 * 86400)
    _, created = await booted.submit("one", sh("true"), submitter)
    assert not created, "it would run twice"


async def test_what_ends_after_a_long_pause_pushes_out_what_is_older(make_ledger, ended):
    clock = ManualClock(now=time.time() - 7200)
    for name in ("one", "two"):
        ledger = make_ledger(CommandBounds(retention=RetentionBounds(commands=1)), clock=clock)
        await ledger.open()
        await ended((await ledger.submit(name, sh("true"), CALLER))[0])
        clock.advance(7200)
    await ledger.keep_house()
    assert [command.command_id for command in ledger] == ["two"]


async def test_an_id_that_is_being_forgotten_is_not_taken_anew_before_it_is(make_ledger, tmp_path, ended):
    ledger = make_ledger(CommandBounds(retention=RetentionBounds(age_seconds=-1.0)))
    await ledger.open()
    await ended((await ledger.submit("one", sh("true"), CALLER))[0])
    free = threading.Event()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    blocked = asyncio.get_running_loop().run_in_executor(None, free.wait)
    house = asyncio.create_task(ledger.keep_house())
    await asyncio.sleep(0)  # what it removes waits for the one thread
    again = asyncio.create_task(ledger.submit("one", sh("true"), CALLER))
    await asyncio.sleep(0)
    free.set()
    await asyncio.gather(blocked, house)
    _, created = await again
    assert not created
    assert [command.command_id for command in ledger] == []


async def test_old_commands_are_forgotten(make_ledger, tmp_path, ended):
    ledger = make_ledger(CommandBounds(retention=RetentionBounds(commands=2)))
    await ledger.open()
    for name in ("one", "two", "three"):
        await ended((await ledger.submit(name, sh("true"), CALLER))[0])
        await asyncio.sleep(0.002)
    await ledger.keep_house()
    assert [command.command_id for command in ledger] == ["two", "three"]
    assert sorted(path.name for path in (tmp_path / "commands").iterdir()) == ["three", "two"]


async def test_of_long_commands_fewer_are_remembered(make_ledger, ended):
    ledger = make_ledger(CommandBounds(retention=RetentionBounds(shown_characters=25_000)))
    await ledger.open()
    for name in ("one", "two", "three"):
        await ended((await ledger.submit(name, Submission(argv=["true", "x" * 10_000]), CALLER))[0])
        await asyncio.sleep(0.002)
    await ledger.keep_house()
    assert [command.command_id for command in ledger] == ["two", "three"]


async def test_long_arguments_are_in_memory_only_as_far_as_they_are_shown_and_the_program_gets_all(
    ledger, make_ledger, policy_file, policy, tmp_path, ended
):
    narrow(policy_file, policy, "max_concurrent = 1")
    counting = Submission(argv=["sh", "-c", 'printf %s "$@" | wc -c', "sh", *["x" * 50_000] * 4])
    await ended((await ledger.submit("at-once", counting, CALLER))[0])
    await ledger.submit("runs", sh("sleep 60"), CALLER)
    await ledger.submit("waits", counting, CALLER)
    assert all(sum(map(len, command.record.argv)) <= 16_384 for command in ledger)
    assert ledger.get("waits").document()["argv_truncated"]
    await ledger.stop()
    again = make_ledger()
    await again.open()
    await again.cancel("runs", "someone")
    await ended(again.get("waits"))
    for command_id in ("at-once", "waits"):
        assert await output(again, again.get(command_id)) == b"200000\n"
        assert again.get(command_id).document()["argv_truncated"]


async def test_a_disk_that_lets_nothing_go_ends_no_agent(make_ledger, tmp_path, ended, logged):
    ledger = make_ledger(CommandBounds(retention=RetentionBounds(commands=1, output_bytes=1)))
    await ledger.open()
    for name in ("one", "two"):
        await ended((await ledger.submit(name, sh("printf 1234"), CALLER))[0])
        await asyncio.sleep(0.002)
    for stuck in (tmp_path / "commands" / "one" / RECORD_FILE, tmp_path / "commands" / "two" / "stdout"):
        stuck.unlink()
        stuck.mkdir()  # which unlink(2) refuses, as it does everything on a disk that has become read-only
    await ledger.keep_house()
    told = [entry for entry in logged.entries if entry["event"] == "command.not_removed"]
    assert [(entry["command_id"], entry["what"]) for entry in told] == [("one", "record"), ("two", "output")]


async def test_output_goes_before_records_do(make_ledger, tmp_path, ended):
    ledger = make_ledger(CommandBounds(retention=RetentionBounds(output_bytes=5)))
    await ledger.open()
    for name in ("one", "two"):
        await ended((await ledger.submit(name, sh("printf 1234"), CALLER))[0])
        await asyncio.sleep(0.002)
    await ledger.keep_house()
    assert ledger.get("one").document()["output_removed"]
    assert record_of(tmp_path, "one")["output_removed"], "the next agent says so too"
    assert not ledger.get("two").document()["output_removed"]
    assert not (tmp_path / "commands" / "one" / "stdout").exists()


def narrow(policy_file, policy, rules):
    first = policy_file.read_text().splitlines()[:2] if "run_as" not in rules else ["[commands]"]
    policy_file.write_text("\n".join([*(first or ["[commands]"]), rules]))
    assert policy.reload()
