"""The initialisation of a node with real processes: order, failure, what a kill leaves, what a restart does not do."""

import asyncio
import json

import pytest

from node_agent.commands.errors import CommandRefused, RefusalReason
from node_agent.init_scripts import initialisation
from node_agent.init_scripts.initialisation import PLAN_PATH
from node_agent.init_scripts.record import PLAN_FILE, RECORD_FILE, InitState
from node_agent.init_scripts.reporting import REPORT_PATH
from node_agent.init_scripts.script_command import command_id_of
from tests.node_agent.init_scripts.conftest import entry, handed
from tests.support.agent_control_plane import error
from tests.support.still_disk import a_disk_that_stands_still

PLAN_AND_RECORD_FLUSHES = 4
"""Each of the two files, and its directory."""


def appends(path, text: str) -> bytes:
    return f"echo {text} >>{path}\n".encode()


async def test_scripts_run_in_their_order_and_then_the_node_is_ready(start, ledger, control_plane, tmp_path, state):
    out = tmp_path / "out"
    control_plane.plan = handed(("b", appends(out, "1")), ("a", appends(out, "2")), ("c", appends(out, "3")))
    started = start(ledger)
    assert (started.record.state, started.readiness.ready) == (InitState.DUE, False)
    async with started.running():
        await started.until_final()
        report = await started.until_reported()
    assert out.read_text().split() == ["1", "2", "3"]
    assert (started.record.state, started.readiness.ready) == (InitState.READY, True)
    assert (report["state"], report["run"]) == ("READY", 1)
    assert [one["state"] for one in report["scripts"]] == ["SUCCEEDED"] * 3
    assert not (state / PLAN_FILE).exists()
    assert (state / RECORD_FILE).stat().st_mode & 0o777 == 0o600
    assert started.metrics.init_scripts.labels("succeeded")._value.get() == 3


async def test_nothing_runs_and_nothing_is_said_to_run_before_that_is_on_the_disk(
    start, ledger, control_plane, tmp_path, state
):
    out = tmp_path / "out"
    control_plane.plan = handed(("a", appends(out, "1")))
    started = start(ledger)
    with a_disk_that_stands_still() as disk:
        async with started.running():
            for _ in range(PLAN_AND_RECORD_FLUSHES):
                await disk.asked()
                assert started.record.state is InitState.DUE
                assert not out.exists()
                disk.move_once()
            await disk.asked()
            assert started.record.state is InitState.INITIALISING
            assert json.loads((state / RECORD_FILE).read_bytes())["state"] == "INITIALISING"
            disk.move()
            await started.until_final()
    assert out.read_text() == "1\n"
    assert json.loads((state / RECORD_FILE).read_bytes())["state"] == "READY"


async def test_what_is_written_last_is_what_is_on_the_disk(start, ledger, state):
    started = start(ledger)
    with a_disk_that_stands_still() as disk:
        first = asyncio.create_task(started.initialisation._save())
        await disk.asked()
        started.record.reason = "later"
        second = asyncio.create_task(started.initialisation._save())
        disk.move()
        await first
        await second
    assert json.loads((state / RECORD_FILE).read_bytes())["reason"] == "later"


async def test_the_first_failure_stops_the_rest_and_its_output_is_told(start, ledger, control_plane, tmp_path):
    out = tmp_path / "out"
    bad = b"echo some; printf 'tail \\377\\000' >&2; exit 7\n"
    control_plane.plan = handed(("a", appends(out, "1")), ("bad", bad), ("c", appends(out, "3")))
    started = start(ledger)
    async with started.running():
        await started.until_final()
        report = await started.until_reported()
    assert out.read_text() == "1\n"
    assert (report["state"], report["reason"]) == (
        "INIT_FAILED",
        "the init script 'bad' failed: it exited with status 7",
    )
    assert [one["state"] for one in report["scripts"]] == ["SUCCEEDED", "FAILED", "WAITING"]
    failed = report["scripts"][1]
    assert (failed["exit_code"], failed["stdout_tail"]) == (7, "some\n")
    assert failed["stderr_tail"] == "tail \ufffd\ufffd"
    with pytest.raises(CommandRefused) as refused:
        started.readiness.require()
    assert refused.value.reason is RefusalReason.INIT_FAILED
    assert "status 7" in refused.value.message


async def test_a_restart_runs_nothing_again_and_says_nothing_again(start, ledger, control_plane, tmp_path):
    out = tmp_path / "out"
    control_plane.plan = handed(("a", appends(out, "1")))
    started = start(ledger)
    async with started.running():
        await started.until_final()
        await started.until_reported()
    control_plane.asked.clear()
    control_plane.plan = handed(("other", appends(out, "2")), run=9)
    again = start(ledger)
    async with again.running():
        assert again.readiness.ready
        await again.until_reported() if again.record.sequence > again.record.reported else None
    assert out.read_text() == "1\n"
    assert [path for path, _ in control_plane.asked if path in (PLAN_PATH, REPORT_PATH)] == []


async def test_a_script_that_the_ledger_knows_is_not_run_again(start, ledger, control_plane, tmp_path, until):
    """Killed after the script was taken and before its end was recorded: the next agent waits for the same command."""
    out = tmp_path / "out"
    control_plane.plan = handed(("a", appends(out, "1") + b"sleep 0.3\n"), ("b", appends(out, "2")))
    started = start(ledger)
    async with started.running():
        await until(out.exists)
    assert started.record.state is InitState.INITIALISING
    control_plane.plan = handed(("changed since", b"exit 1"))
    again = start(ledger)
    await again.initialised()
    assert out.read_text().split() == ["1", "2"]
    assert again.record.state is InitState.READY
    assert control_plane.count(PLAN_PATH) == 1, "what was stored is gone on with, whatever there is by now"


async def test_a_script_outlives_its_agent_and_is_waited_for_by_the_next(
    start, make_ledger, control_plane, tmp_path, until
):
    out = tmp_path / "out"
    control_plane.plan = handed(("a", appends(out, "1") + b"sleep 0.5\n"), ("b", appends(out, "2")))
    first = make_ledger()
    await first.open()
    started = start(first)
    async with started.running():
        await until(out.exists)
    await first.stop()
    second = make_ledger()
    await second.open()
    again = start(second)
    await again.initialised()
    assert (out.read_text().split(), again.record.state) == (["1", "2"], InitState.READY)


async def test_an_end_that_the_disk_did_not_take_is_stored_later(
    start, ledger, control_plane, tmp_path, state, until, monkeypatch
):
    """Else an agent that is started again once the ledger has forgotten the scripts would run them again."""
    monkeypatch.setattr(initialisation, "STORE_AGAIN_SECONDS", 0.01)
    go, record = tmp_path / "go", state / RECORD_FILE
    control_plane.plan = handed(("a", f"while [ ! -e {go} ]; do sleep 0.02; done\n".encode()))
    started = start(ledger)
    async with started.running():
        # What runs is on the disk as well: nothing is written again before the script ends.
        await until(lambda: record.is_file() and '"RUNNING"' in record.read_text())
        record.unlink()
        record.mkdir()  # nothing can be put in its place
        go.touch()
        await started.until_final()
        await started.until_reported()
        record.rmdir()
        await until(lambda: record.is_file() and json.loads(record.read_bytes())["state"] == "READY")


async def test_nothing_to_run_is_ready_without_a_report(start, ledger, control_plane):
    started = start(ledger)
    await started.initialised()
    assert started.readiness.ready
    assert control_plane.count(REPORT_PATH) == 0
    assert started.record.last_run == 1


@pytest.mark.parametrize("status", [404, 405])
async def test_a_control_plane_of_an_earlier_release_has_no_scripts(start, ledger, control_plane, status):
    control_plane.faults[PLAN_PATH] = [lambda document: error(status, "ENDPOINT_NOT_FOUND")]
    started = start(ledger)
    await started.initialised()
    assert started.readiness.ready


async def test_an_answer_is_waited_for(start, ledger, control_plane, tmp_path):
    out = tmp_path / "out"
    control_plane.faults[PLAN_PATH] = [lambda document: error(503, "TEMPORARILY_UNAVAILABLE")]
    control_plane.lost[PLAN_PATH] = 1
    control_plane.plan = handed(("a", appends(out, "1")))
    started = start(ledger)
    refusal = started.readiness.refusal()
    assert refusal is not None
    assert refusal.reason is RefusalReason.INITIALISING
    await started.initialised()
    assert out.read_text() == "1\n"
    assert control_plane.count(PLAN_PATH) == 3


async def test_a_script_that_is_not_the_one_of_its_hash_is_not_run(start, ledger, control_plane, tmp_path):
    out = tmp_path / "out"
    swapped = entry("a", b"true") | {"script": entry("a", appends(out, "evil"))["script"]}
    control_plane.plan = {"run": 1, "scripts": [swapped]}
    started = start(ledger)
    async with started.running():
        await control_plane.asked_for(PLAN_PATH, 2)
        assert not started.readiness.ready
        control_plane.plan = handed(("a", appends(out, "good")))
        await started.until_final()
    assert out.read_text() == "good\n"


async def test_a_plan_that_was_changed_on_the_disk_is_not_run(start, ledger, control_plane, state, tmp_path, until):
    out = tmp_path / "out"
    control_plane.plan = handed(("a", appends(out, "1") + b"sleep 0.3\n"), ("b", appends(out, "2")))
    started = start(ledger)
    async with started.running():
        await until(out.exists)
    document = json.loads((state / PLAN_FILE).read_bytes())
    document["scripts"][1]["script"] = entry("b", appends(out, "evil"))["script"]
    (state / PLAN_FILE).write_text(json.dumps(document))
    again = start(ledger)
    await again.initialised()
    assert again.record.state is InitState.INIT_FAILED
    assert out.read_text() == "1\n"


async def test_an_operator_can_have_it_run_again_under_a_higher_number_only(start, ledger, control_plane, tmp_path):
    out = tmp_path / "out"
    control_plane.plan = handed(("a", appends(out, "1") + b"exit 1"))
    started = start(ledger)
    async with started.running():
        await started.until_final()
        assert not started.readiness.ready
        started.initialisation.ask()
        await control_plane.asked_for(PLAN_PATH, 2)
        control_plane.plan = handed(("a", appends(out, "2")), run=2)
        started.initialisation.ask()
        await control_plane.asked_for(PLAN_PATH, 3)
        await until_run(started, 2)
    assert out.read_text().split() == ["1", "2"]
    assert started.record.state is InitState.READY
    asked = [document["last_run"] for path, document in control_plane.asked if path == PLAN_PATH]
    assert asked == [0, 1, 1]


async def until_run(started, run):
    import asyncio

    async with asyncio.timeout(20):
        while started.record.last_run < run:  # noqa: ASYNC110 - the answer comes over a real connection
            await asyncio.sleep(0.01)
    await started.until_final()


@pytest.mark.parametrize("rules", ["[init]\nenabled = false\n", "[commands]\nenabled = false\n"])
async def test_an_owner_who_allows_none_has_a_node_that_says_so(
    start, ledger, control_plane, tmp_path, policy, policy_file, rules
):
    policy_file.write_text(rules)
    assert policy.reload()
    control_plane.plan = handed(("a", appends(tmp_path / "out", "1")))
    started = start(ledger)
    await started.initialised()
    assert not (tmp_path / "out").exists()
    assert started.record.state is InitState.INIT_FAILED
    assert started.record.scripts[0].state == "REFUSED"
    assert "the node's owner does not allow init scripts" in (started.record.reason or "")


async def test_the_owner_bounds_user_and_time(start, ledger, control_plane, policy, policy_file):
    policy_file.write_text(
        "[commands]\nrun_as = 'root'\nrequire_body_binding = true\n[init]\nrun_as = 'nobody'\ntimeout_seconds = 0.5\n"
    )
    assert policy.reload()
    control_plane.plan = handed(("a", b"sleep 60\n"))
    started = start(ledger)
    await started.initialised()
    command = ledger.get(command_id_of(1, entry("a", b"")["script_id"], started.record.node_id))
    assert (command.record.user, command.record.timeout_seconds) == ("nobody", 0.5)
    assert started.record.scripts[0].state == "TIMED_OUT"
    assert "0.5 seconds" in (started.record.reason or "")


async def test_a_node_of_before_there_were_records_is_ready(start, ledger, control_plane, state):
    (state / RECORD_FILE).unlink()
    started = start(ledger)
    assert started.readiness.ready
    assert start(ledger).record.instance == started.record.instance, "the state directory has one name"
    assert control_plane.count(PLAN_PATH) == 0


async def test_a_damaged_record_is_not_taken_for_a_new_node(start, ledger, state):
    (state / RECORD_FILE).write_text("{}")
    started = start(ledger)
    assert started.record.state is InitState.INIT_FAILED
    assert "damaged" in (started.record.reason or "")


async def test_a_record_of_another_node_does_not_count(start, ledger, state):
    record = json.loads((state / RECORD_FILE).read_bytes())
    (state / RECORD_FILE).write_text(json.dumps(record | {"node_id": "nd-other", "state": "INIT_FAILED"}))
    assert start(ledger).readiness.ready


async def test_a_control_plane_that_forgot_how_a_run_ended_is_told_again(start, ledger, control_plane):
    """As after a restore from a backup; what it had handed is named by its number and time."""
    control_plane.plan = handed(("a", b"#!/bin/sh\n"), request_time=1234)
    started = start(ledger)
    async with started.running():
        await started.until_final()
        await started.until_reported()
    control_plane.asked.clear()
    control_plane.plan = handed(report=True)
    again = start(ledger)
    async with again.running():
        again.initialisation.ask()
        await control_plane.asked_for(REPORT_PATH, 1)
    (_, asked), (_, said) = [(path, said) for path, said in control_plane.asked if path in (PLAN_PATH, REPORT_PATH)]
    assert (asked["last_run"], asked["last_request_time"]) == (1, 1234)
    assert (said["run"], said["state"], len(said["scripts"])) == (1, "READY", 1)
