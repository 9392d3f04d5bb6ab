"""A supervisor and its command by themselves: how it ends, what it leaves, and what it bears."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import node_agent
from node_agent.supervisor.plan import User
from node_agent.supervisor.records import STARTED_FILE
from tests.support.keyrings import ASKING, own_keyring
from tests.support.supervisors import PATH, Supervised, alive, plan

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run commands as others")


@pytest.fixture
def supervise(tmp_path):
    """Start supervisors, each in a directory of its own whose path is longer than a socket's may be."""

    def start(*argv, **changes):
        return Supervised(tmp_path / ("x" * 110) / os.urandom(4).hex(), plan(*argv, **changes))

    return start


def ended(supervise, *argv, **changes):
    with supervise(*argv, **changes) as supervised:
        return supervised.ended(), supervised


def test_status_output_and_times_are_recorded(supervise):
    ending, supervised = ended(supervise, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (ending["exit_code"], ending["signal"], ending["failed"], ending["cause"]) == (3, None, None, None)
    assert (supervised.output(), supervised.output("stderr")) == (b"out\n", b"err\n")
    assert ending["output"] == [[4, 0, None], [4, 0, None]]
    assert ending["start_time"] <= ending["end_time"]
    assert ending["usage"]["memory_peak_bytes"] > 0
    started = supervised.document(STARTED_FILE)
    assert (started["pid"], started["start_time"]) == (ending["pid"], ending["start_time"])


def test_it_leaves_records_and_output_only(supervise):
    _, supervised = ended(supervise, "true", stdin=b"x")
    left = {path.name for path in supervised.directory.iterdir()}
    assert left == {"claim.json", "started.json", "ending.json", "stdout", "stdout.times", "stderr", "stderr.times"}
    assert {path.stat().st_mode & 0o777 for path in supervised.directory.iterdir()} == {0o600}
    assert not any(Path(group).exists() for group in supervised.claim()["groups"].values())


LONG = "/" + "\U0001f600" * 1000


@pytest.mark.parametrize(
    ("argv", "changes", "said"),
    [
        (("no-such-program",), {}, "cannot start 'no-such-program': No such file or directory"),
        (("/etc/passwd",), {}, "cannot start '/etc/passwd': Permission denied"),
        (("true",), {"working_directory": LONG}, f"cannot start 'true': File name too long ({LONG[:200]})"),
        (("true",), {"working_directory": "/no/such"}, "cannot start 'true': No such file or directory (/no/such)"),
        (("true", *["x" * 100_000] * 100), {}, "cannot start 'true': Argument list too long"),
        (("true",), {"environment": {}}, "cannot start 'true': No such file or directory"),
    ],
)
def test_what_cannot_be_started_says_why(supervise, argv, changes, said):
    ending, _ = ended(supervise, *argv, **changes)
    assert (ending["failed"], ending["exit_code"], ending["signal"]) == (said, None, None)


def test_the_time_runs_out(supervise):
    ending, _ = ended(supervise, "sleep", "60", timeout_seconds=0.1)
    assert (ending["cause"], ending["signal"]) == ("timeout", signal.SIGTERM)


@pytest.mark.parametrize("timeout_seconds", [30 * 86400.0, float("inf")])
def test_the_time_may_be_longer_than_the_kernel_waits_at_once(supervise, timeout_seconds):
    ending, supervised = ended(supervise, "echo", "done", timeout_seconds=timeout_seconds)
    assert (ending["exit_code"], supervised.output()) == (0, b"done\n")


def test_whoever_does_not_hear_is_killed_after_the_grace_with_everybody_below(supervise):
    script = "trap '' TERM; setsid sleep 60 & echo $!; echo $$; while :; do sleep 1; done"
    with supervise("sh", "-c", script) as supervised:
        supervised.hears("started")
        while (sizes := supervised.hears("output"))[0] < 4:
            assert sizes[1] == 0
        supervised.say({"stop": {"cause": "cancel", "reason": "cancelled by me", "grace": 0.1}})
        ending = supervised.ended()
        assert (ending["cause"], ending["reason"], ending["signal"]) == ("cancel", "cancelled by me", signal.SIGKILL)
        assert not any(alive(int(pid)) for pid in supervised.output().split())


def test_a_stop_that_comes_with_the_start_is_heard(supervise):
    with supervise("sleep", "60") as supervised:
        supervised.say({"stop": {"cause": "cancel", "grace": 10.0}})
        ending = supervised.ended()
        assert (ending["cause"], ending["signal"]) == ("cancel", signal.SIGTERM)


def test_everybody_may_use_the_grace(supervise, tmp_path):
    script = f"(trap 'sleep 0.2; touch {tmp_path}/cleared; exit' TERM; echo up; while :; do sleep 0.05; done) & wait"
    with supervise("sh", "-c", script, grace_seconds=10.0) as supervised:
        while supervised.hears("output")[0] == 0:
            pass
        supervised.say({"stop": {"cause": "cancel"}})
        assert supervised.ended()["cause"] == "cancel"
    assert (tmp_path / "cleared").exists()


def test_a_daemon_that_forks_twice_dies_with_the_command(supervise, tmp_path):
    up = tmp_path / "up"
    os.mkfifo(up)
    script = f"(setsid env -i sh -c 'echo $$; : >{up}; exec sleep 60' &) ; : <{up}; exit 0"
    ending, supervised = ended(supervise, "sh", "-c", script)
    assert ending["exit_code"] == 0
    assert not alive(int(supervised.output()))


def test_a_supervision_that_fails_leaves_nobody_and_says_so(supervise):
    with supervise("sh", "-c", "trap '' TERM; setsid sleep 60 & echo $! $$; wait") as supervised:
        while supervised.hears("output")[0] == 0:
            pass
        supervised.say({"stop": {"cause": "cancel", "grace": 10**400}})
        ending = supervised.ended()
        assert ending["lost"].startswith("its supervisor failed (OverflowError at supervision.py:")
        assert not any(alive(int(pid)) for pid in supervised.output().split())


def test_closed_outputs_do_not_end_a_command(supervise, tmp_path):
    ending, _ = ended(supervise, "sh", "-c", f"exec >&- 2>&-; sleep 0.1; touch {tmp_path}/after; exit 4")
    assert ending["exit_code"] == 4
    assert (tmp_path / "after").exists()


def test_a_burst_of_lines_is_whole(supervise):
    _, supervised = ended(supervise, "seq", "1", "200000")
    assert supervised.output() == b"".join(b"%d\n" % number for number in range(1, 200_001))


def test_output_beyond_the_bound_is_dropped_and_counted(supervise):
    ending, supervised = ended(supervise, "head", "-c", "5000000", "/dev/zero", max_output_bytes=1000)
    assert ending["output"][0] == [1000, 4_999_000, None]
    assert (ending["exit_code"], len(supervised.output())) == (0, 1000)


def test_secrets_are_masked_before_they_are_on_the_disk(supervise):
    script = "printf 'it is hun'; sleep 0.05; printf 'ter2, hunt'; echo $PW >&2"
    environment = {"PATH": PATH, "PW": b"hunter2"}
    _, supervised = ended(supervise, "sh", "-c", script, environment=environment, patterns=(b"hunter2",))
    assert (supervised.output(), supervised.output("stderr")) == (b"it is [redacted], hunt", b"[redacted]\n")
    assert b"hunter2" not in b"".join(path.read_bytes() for path in supervised.directory.iterdir())


def test_the_plan_is_neither_in_arguments_nor_in_the_environment(supervise):
    with supervise("sleep", "60", environment={"PATH": PATH, "PW": b"hunter2"}) as supervised:
        supervised.hears("started")
        process = Path(f"/proc/{supervised.pid}")
        assert (process / "environ").read_bytes() == b""
        assert b"sleep" not in (process / "cmdline").read_bytes()


def test_its_secrets_directory_goes_when_the_command_has_ended(supervise, tmp_path):
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "pw").write_bytes(b"hunter2")
    ending, supervised = ended(supervise, "cat", str(secrets / "pw"), secrets_directory=str(secrets))
    assert (ending["exit_code"], supervised.output(), secrets.exists()) == (0, b"hunter2", False)


def test_the_command_has_three_descriptors_and_nothing_of_the_supervisors_signals(supervise):
    script = "ls /proc/self/fd | wc -l; grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status | awk '{print $2}'; umask"
    _, supervised = ended(supervise, "sh", "-c", script)
    lines = supervised.output().split()
    assert int(lines[0]) == 4  # three, and the one that ls reads the directory with
    standard = 0x7FFF_FFFF
    assert [int(line, 16) & standard for line in lines[1:3]] == [0, 0]
    assert lines[-1] == b"0022"


def test_each_command_has_a_keyring_of_its_own(supervise):
    keyrings = [own_keyring()]
    for _ in range(2):
        _, supervised = ended(supervise, *ASKING)
        keyrings.append(supervised.output().strip())
    assert len(set(keyrings)) == 3, keyrings


def test_it_goes_on_without_its_agent(supervise, tmp_path):
    with supervise("sh", "-c", f"while ! test -e {tmp_path}/go; do sleep 0.02; done; echo on; exit 6") as supervised:
        supervised.hears("started")
        supervised.hang_up()
        (tmp_path / "go").touch()
        assert supervised.ended()["exit_code"] == 6
        assert supervised.output() == b"on\n"


def test_hangups_and_broken_pipes_do_not_reach_it(supervise):
    with supervise("sleep", "60") as supervised:
        supervised.hears("started")
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGUSR1):
            os.kill(supervised.pid, number)
        supervised.say({"stop": {"cause": "cancel"}})
        assert supervised.ended()["cause"] == "cancel"


def test_sigterm_ends_its_command_and_a_second_one_at_once(supervise):
    script = "trap 'echo heard' TERM; echo up; while :; do sleep 0.02; done"
    with supervise("sh", "-c", script, grace_seconds=60.0) as supervised:
        for size in (3, 9):
            while supervised.hears("output")[0] < size:
                pass
            os.kill(supervised.pid, signal.SIGTERM)
        ending = supervised.ended()
        assert (ending["cause"], ending["signal"]) == ("signalled", signal.SIGKILL)


def test_a_plan_that_does_not_come_starts_nothing(tmp_path):
    with Supervised(tmp_path / "c", plan("touch", str(tmp_path / "ran")), part_of_plan=True) as supervised:
        supervised.hang_up()
        assert supervised.wait() == 3
    assert not list((tmp_path / "c").iterdir())


def test_of_two_supervisors_one_starts_the_command(tmp_path):
    wanted = plan("sh", "-c", f"echo >> {tmp_path}/ran; sleep 0.2")
    with Supervised(tmp_path / "c", wanted) as one, Supervised(tmp_path / "c", wanted) as other:
        assert sorted((one.wait(), other.wait())) == [0, 4]
    assert (tmp_path / "ran").read_bytes() == b"\n"


def test_a_directory_that_is_deleted_under_it_changes_nothing_for_the_command(supervise, tmp_path):
    script = f"while ! test -e {tmp_path}/go; do sleep 0.02; done; touch {tmp_path}/after"
    with supervise("sh", "-c", script) as supervised:
        supervised.hears("started")
        for path in supervised.directory.iterdir():
            path.unlink()
        supervised.directory.rmdir()
        (tmp_path / "go").touch()
        assert supervised.wait() == 6
    assert (tmp_path / "after").exists()


@as_root
def test_another_user_can_neither_end_nor_trace_nor_read_it(supervise, tmp_path):
    user = User(NOBODY, NOBODY, (NOBODY,))
    script = (
        "id -u; id -G; kill -9 $PPID 2>/dev/null || echo not killed;"
        "cat /proc/$PPID/environ 2>/dev/null || echo hidden;"
        f"ls {tmp_path} 2>/dev/null || echo closed"
    )
    ending, supervised = ended(supervise, "sh", "-c", script, user=user)
    assert supervised.output().split(b"\n")[:-1] == [b"65534", b"65534", b"not killed", b"hidden", b"closed"]
    assert ending["exit_code"] == 0


@as_root
def test_a_working_directory_is_entered_as_the_user(supervise, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    user = User(NOBODY, NOBODY, (NOBODY,))
    ending, _ = ended(supervise, "pwd", user=user, working_directory=str(closed))
    assert ending["failed"] == f"cannot start 'pwd': Permission denied ({closed})"


def test_it_imports_the_standard_library_only():
    program = (
        "import sys; sys.path.append(sys.argv[1]); import node_agent.supervisor.main as main;"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names))"
    )
    root = str(Path(node_agent.__file__).parents[1])
    command = [sys.executable, "-I", "-S", "-c", program, root]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert found == ["__main__", "node_agent"] or found == ["node_agent"]


def test_an_input_that_follows_is_passed_on_and_leaves_no_more_on_the_disk_than_it_has_to(tmp_path):
    size = 40 * 1024 * 1024
    with streamed(tmp_path, "sh", "-c", "sha256sum; sleep 60") as supervised:
        directory = supervised.directory
        content = os.urandom(size)
        (directory / "stdin").write_bytes(content)
        supervised.say({"stdin_bytes": size})
        while supervised.hears("stdin") != [size, False]:
            pass
        assert (directory / "stdin").stat().st_blocks * 512 < size // 2
        while supervised.hears("output")[0] == 0:
            pass
        assert supervised.output().split()[0].decode() == hashlib.sha256(content).hexdigest()


def test_a_program_that_closes_its_input_is_told_of(tmp_path):
    with streamed(tmp_path, "sh", "-c", "exec <&-; echo up; sleep 60") as supervised:
        while supervised.hears("output")[0] == 0:
            pass
        (supervised.directory / "stdin").write_bytes(b"x")
        supervised.say({"stdin_bytes": None})
        while supervised.hears("stdin") != [0, False]:
            pass


def streamed(directory, *argv):
    (directory / "stdin").touch()
    return Supervised(directory, plan(*argv, stdin_streamed=True))
