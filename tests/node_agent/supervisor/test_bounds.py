"""The bounds of a command, as this machine can set them: by control groups where it has them, else by rlimits."""

import os
from pathlib import Path

import pytest

from node_agent.supervisor.cgroups import Group, make_group
from node_agent.supervisor.child import start_program
from node_agent.supervisor.plan import Limits
from tests.support.supervisors import Supervised, plan

MEGABYTE = 1024**2


@pytest.fixture
def supervise(tmp_path):
    def start(*argv, **changes):
        return Supervised(tmp_path / os.urandom(4).hex(), plan(*argv, **changes))

    return start


@pytest.fixture(scope="module")
def bounded():
    """Which limits a group sees to on this machine."""
    group = make_group(os.urandom(8).hex())
    names = group.bound(Limits(memory_bytes=64 * MEGABYTE, processes=10, cpu_percent=50))
    group.remove()
    return names


def needs(bounded, name):
    if name not in bounded:
        pytest.skip(f"no control group can bound {name} here")


def test_memory(supervise, bounded):
    needs(bounded, "memory_bytes")
    with supervise("sh", "-c", "head -c 1G /dev/zero | tail", limits=Limits(memory_bytes=64 * MEGABYTE)) as supervised:
        ending = supervised.ended()
    assert ending["exit_code"] == 137
    assert ending["usage"]["oom_kills"] >= 1
    assert ending["usage"]["memory_peak_bytes"] <= 64 * MEGABYTE


def test_processes(supervise, bounded):
    needs(bounded, "processes")
    script = "for _ in 1 2 3 4 5 6 7 8 9; do sleep 60 & done; echo all"
    with supervise("sh", "-c", script, limits=Limits(processes=5)) as supervised:
        assert supervised.ended()["exit_code"] != 0
        assert supervised.output() == b""


def test_a_fork_bomb_that_ignores_sigterm_ends_soon_after_the_grace(supervise, bounded):
    needs(bounded, "processes")
    script = "trap '' TERM; exec perl -e 'fork while 1'"
    with supervise("sh", "-c", script, limits=Limits(processes=100), timeout_seconds=20.0) as supervised:
        supervised.hears("started")
        procs = Path(supervised.claim()["groups"]["pids"]) / "cgroup.procs"
        while len(procs.read_bytes().split()) < 100:
            pass
        supervised.say({"stop": {"cause": "cancel", "grace": 0.2}})
        ending = supervised.ended()
    assert (ending["cause"], ending["signal"]) == ("cancel", 9)
    assert not procs.exists()


def test_processor(supervise, bounded):
    needs(bounded, "cpu_percent")
    with supervise("sh", "-c", "while :; do :; done", limits=Limits(cpu_percent=10), timeout_seconds=1.5) as supervised:
        usage = supervised.ended()["usage"]
    assert usage["cpu_seconds"] < usage["elapsed_seconds"] / 2


def test_open_files(supervise):
    with supervise("sh", "-c", "ulimit -n", limits=Limits(open_files=64)) as supervised:
        supervised.ended()
        assert supervised.output() == b"64\n"


def test_without_a_group_rlimits_bound_each_process(tmp_path):
    out = os.open(tmp_path / "out", os.O_CREAT | os.O_RDWR)
    null = os.open(os.devnull, os.O_RDONLY)
    wanted = plan("sh", "-c", "ulimit -v; ulimit -p", limits=Limits(memory_bytes=512 * MEGABYTE, processes=4000))
    pid, report = start_program(wanted, Group({}), (null, out, out), set())
    os.waitpid(pid, 0)
    assert (tmp_path / "out").read_text().split() == [str(512 * 1024), "4000"]
    for descriptor in (out, null, report):
        os.close(descriptor)
