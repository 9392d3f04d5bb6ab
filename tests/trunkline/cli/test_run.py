"""`trunkline run`: outputs, statuses, interruption."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime

import pytest

from tests.support.fake_control_plane import DELIVER_BEFORE, CannedCommand, FakeControlPlane
from tests.trunkline.cli.conftest import Trunkline


def test_one_nodes_outputs_pass_unchanged_and_apart(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1", CannedCommand(stdout=b"out\x1b[31m\x00\xff", stderr=b"err\n", state="FAILED", exit_code=3))
    outcome = trunkline("run", "--node", "vm-1", "--", "cmd", "--flag")
    assert (outcome.status, outcome.stdout, outcome.stderr) == (3, b"out\x1b[31m\x00\xff", "err\n")
    body = next(body for method, path, body in fake.requests if method == "POST")
    assert body["target"] == {"node": "vm-1"}
    assert body["argv"] == ["cmd", "--flag"]


def test_what_can_be_said_of_a_command_is_sent(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1")
    options = [
        "--env",
        "A=1",
        "--env",
        "B=x=y",
        "--timeout",
        "2.5",
        "--grace",
        "1",
        "--limit",
        "memory=64M",
        "--limit",
        "processes=8",
        "--directory",
        "/tmp",
        "--user",
        "joe",
        "--id",
        "c-1",
    ]
    assert trunkline("run", "--node", "vm-1", *options, "--", "true").status == 0
    body = next(body for method, path, body in fake.requests if method == "POST")
    assert body == {
        "command_id": "c-1",
        "target": {"node": "vm-1"},
        "argv": ["true"],
        "environment": {"A": "1", "B": "x=y"},
        "working_directory": "/tmp",
        "user": "joe",
        "timeout_seconds": 2.5,
        "grace_seconds": 1.0,
        "limits": {"memory_bytes": 64 * 2**20, "processes": 8},
    }


def test_a_named_command_is_sent_with_its_parameters(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1")
    options = ["--named", "restart", "--parameter", "service=nginx", "-p", "force=true"]
    assert trunkline("run", "--node", "vm-1", "--id", "c-1", *options).status == 0
    body = next(body for method, path, body in fake.requests if method == "POST")
    parameters = {"service": "nginx", "force": "true"}
    assert body == {"command_id": "c-1", "target": {"node": "vm-1"}, "named": "restart", "parameters": parameters}


def test_a_command_is_an_argument_list_or_a_named_one(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1")
    for rest in ([], ["--named", "x", "--", "true"], ["--parameter", "a=b", "--", "true"]):
        outcome = trunkline("run", "--node", "vm-1", *rest)
        assert (outcome.status, outcome.stdout) == (os.EX_USAGE, b"")
        assert "either" in outcome.stderr
    assert not [path for method, path, body in fake.requests if method == "POST"]


def test_several_nodes_lines_carry_their_names_and_the_largest_status_counts(
    fake: FakeControlPlane, trunkline: Trunkline
) -> None:
    fake.add_node("vm-1", CannedCommand(stdout=b"one\ntwo"))
    fake.add_node("vm-10", CannedCommand(stdout=b"\x1b[2Jthree\n", stderr=b"bad\n", state="FAILED", exit_code=4))
    fake.add_node("vm-2", CannedCommand(state="FAILED", exit_code=2))
    outcome = trunkline("run", "--all", "--", "cmd")
    assert outcome.status == 4
    assert sorted(outcome.stdout.splitlines()) == [b"vm-1  | one", b"vm-1  | two", b"vm-10 | \x1b[2Jthree"]
    assert "vm-10 | bad" in outcome.stderr
    assert "trunkline: vm-10: exit status 4" in outcome.stderr
    assert "trunkline: vm-2: exit status 2" in outcome.stderr


def test_all_nodes_well_is_status_0(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1")
    fake.add_node("vm-2")
    outcome = trunkline("run", "--all", "--", "true")
    assert (outcome.status, outcome.stdout) == (0, b"")
    assert outcome.stderr.splitlines()[-1] == "2 nodes: 2 succeeded"
    assert trunkline("run", "--all", "--quiet", "--", "true").stderr == ""


@pytest.mark.parametrize(
    ("canned", "status", "remark"),
    [
        (CannedCommand(state="FAILED", exit_code=None, signal="SIGKILL"), 137, "killed by signal SIGKILL"),
        (CannedCommand(state="TIMED_OUT", exit_code=None), 124, "timed out"),
        (CannedCommand(state="CANCELLED", exit_code=None), 130, "cancelled"),
        (CannedCommand(state="LOST", exit_code=None), 69, "lost: its node no longer knows how it ended"),
        (CannedCommand(state="LOST", exit_code=None, reason="the\x1b node"), 69, "vm-1: lost (the  node)"),
        (CannedCommand(state="FAILED", exit_code=None, reason="no such file"), 69, "could not be run (no such file)"),
    ],
)
def test_endings_without_an_exit_status(
    fake: FakeControlPlane, trunkline: Trunkline, canned: CannedCommand, status: int, remark: str
) -> None:
    fake.add_node("vm-1", canned)
    outcome = trunkline("run", "--node", "vm-1", "--", "cmd")
    assert outcome.status == status
    assert outcome.stderr.startswith("trunkline: vm-1: ")
    assert remark in outcome.stderr


def test_why_a_delivery_waits_is_told_once(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1", CannedCommand(stdout=b"late\n", waits=["it is\x1b offline", "it is\x1b offline"]))
    outcome = trunkline("run", "--node", "vm-1", "--", "cmd")
    until = datetime.fromtimestamp(DELIVER_BEFORE / 1000).astimezone().strftime("%H:%M:%S")
    line = f"trunkline: vm-1: not delivered yet: it is  offline (tried again until {until})\n"
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, b"late\n", line)


def test_an_output_that_breaks_is_taken_up_where_it_broke(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    content = bytes(range(256)) * 1000
    fake.add_node("vm-1", CannedCommand(stdout=content, cut_after_bytes=70_000))
    outcome = trunkline("run", "--node", "vm-1", "--", "cmd")
    assert (outcome.status, outcome.stdout) == (0, content)


def test_no_node_matches(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    outcome = trunkline("run", "--selector", "gpu=yes", "--", "cmd")
    assert outcome.status == os.EX_DATAERR
    assert "no node of the workspace matches it" in outcome.stderr


@pytest.mark.parametrize(
    "arguments",
    [("--", "cmd"), ("--all", "--node", "vm-1", "--", "cmd"), ("--all",), ("--all", "--env", "X", "--", "cmd")],
)
def test_wrong_usage_is_64_and_one_line(trunkline: Trunkline, arguments: tuple[str, ...]) -> None:
    outcome = trunkline("run", *arguments)
    assert outcome.status == os.EX_USAGE
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_cancels_remotely(
    fake: FakeControlPlane, trunkline: Trunkline, number: signal.Signals, status: int
) -> None:
    fake.add_node("vm-1", CannedCommand(endless=True))
    fake.add_node("vm-2", CannedCommand(endless=True))
    with _when(lambda: len(fake.commands) == 2, lambda: os.kill(os.getpid(), number)):
        outcome = trunkline("run", "--all", "--", "sleep", "1000")
    assert outcome.status == status
    assert sorted(fake.cancelled) == sorted(fake.commands)


class _when:  # noqa: N801 - reads as a sentence
    """Does something from another thread once a condition holds."""

    def __init__(self, condition: Callable[[], bool], act: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=self._wait, args=(condition, act))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    @staticmethod
    def _wait(condition: Callable[[], bool], act: Callable[[], None]) -> None:
        give_up_at = time.monotonic() + 20
        while not condition() and time.monotonic() < give_up_at:
            time.sleep(0.01)
        act()


def test_who_follows_an_output_is_told_too(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1", CannedCommand(stdout=b"late\n", waits=["it is offline", "it is offline", ""]))
    fake.commands["c-1"] = {"command_id": "c-1", "node": "vm-1", "node_id": "nd-vm-1", "state": "RUNNING", "argv": []}
    outcome = trunkline("command", "output", "c-1", "--follow")
    assert (outcome.status, outcome.stdout) == (0, b"late\n")
    [line] = outcome.stderr.splitlines()
    assert line.startswith("trunkline: vm-1: not delivered yet: it is offline (tried again until ")
    before = len(fake.requests)
    assert trunkline("command", "output", "c-1").stderr == ""
    assert len(fake.requests) == before + 2, "the output, and then whether anything of it was dropped"


def test_the_end_of_an_output(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1", CannedCommand(stdout=b"0123456789"))
    assert trunkline("run", "--node", "vm-1", "--id", "c-1", "--", "cmd").status == 0
    assert trunkline("command", "output", "c-1", "--tail", "3").stdout == b"789"
    assert trunkline("command", "output", "c-1", "--tail", "3", "--offset", "1").status == os.EX_USAGE


def test_what_was_not_kept_of_an_output_is_told(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1", CannedCommand(stdout=b"0123456789", not_kept=(2, 7)))
    fake.commands["c-1"] = {"command_id": "c-1", "node": "vm-1", "node_id": "nd-vm-1", "state": "SUCCEEDED", "argv": []}
    outcome = trunkline("command", "output", "c-1", "--kept")
    assert (outcome.status, outcome.stdout) == (os.EX_UNAVAILABLE, b"01789")
    assert outcome.stderr == "trunkline: 5 bytes of the output, from offset 2 on, were not kept\n"


def test_the_events_of_a_command(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.commands["c-1"] = {"command_id": "c-1", "node": "vm-1", "state": "FAILED", "argv": []}
    lines = trunkline("command", "events", "c-1").stdout.decode().splitlines()
    assert lines[0].split() == ["TIME", "EVENT", "DETAILS"]
    assert lines[3].split() == ["2027-01-15", "08:00:00Z", "ended", "state=FAILED,", "exit_code=3"]
    followed = trunkline("command", "events", "c-1", "--follow").stdout.decode().splitlines()
    assert followed[2] == "2027-01-15 08:00:00Z  ended  state=FAILED, exit_code=3"
    as_json = trunkline("command", "events", "c-1", "--follow", "-o", "json").stdout.decode().splitlines()
    assert [json.loads(line)["event"] for line in as_json] == ["recorded", "delivered", "ended"]


def test_an_unknown_command_says_since_when_and_how_it_will_be_known(
    fake: FakeControlPlane, trunkline: Trunkline
) -> None:
    unknown = {"since": 1_800_000_000_000, "reason": "offline", "resolves": "soon", "resolves_by": 1_800_000_060_000}
    fake.commands["c-1"] = {"command_id": "c-1", "node": "vm-1", "state": "UNKNOWN", "argv": [], "unknown": unknown}
    fake.add_node("vm-1")
    shown = trunkline("command", "get", "c-1").stdout.decode()
    assert "since=2027-01-15 08:00:00Z, reason=offline, resolves=soon, resolves_by=2027-01-15 08:01:00Z" in shown


@pytest.mark.parametrize("options", [("--node", "vm-1"), ("--all",), ("--all", "--quiet")])
def test_what_the_node_dropped_of_an_output_is_told(
    fake: FakeControlPlane, trunkline: Trunkline, options: tuple[str, ...]
) -> None:
    fake.add_node("vm-1", CannedCommand(stdout=b"the beginning\n", dropped_bytes=77))
    outcome = trunkline("run", *options, "--", "cmd")
    assert (outcome.status, outcome.stdout) == (0, b"the beginning\n")
    assert outcome.stderr.count("vm-1: dropped 77 bytes at the end of its output") == 1
    [command_id] = fake.commands
    assert "dropped 77 bytes" in trunkline("command", "output", command_id).stderr
