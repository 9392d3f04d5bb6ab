"""`trunkline shell` with real daemons: on a terminal, between pipes, and while the way to the node breaks."""

import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.sandboxes import TRUNKLINE, Sandbox, wait_until
from tests.support.terminals import Terminal


def on_terminal(sandbox: Sandbox, *words: str, rows: int = 24, columns: int = 80) -> Terminal:
    command = [TRUNKLINE, "shell", "vm-1", "--state", str(sandbox.state), *words]
    return Terminal(command, rows=rows, columns=columns)


def piped(sandbox: Sandbox, *argv: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return sandbox.trunkline("shell", "vm-1", "--", *argv, stdin=stdin, check=False)


def test_a_terminal_has_our_size_our_keys_and_its_own_status(sandbox: Sandbox) -> None:
    with on_terminal(sandbox, "--", "bash", "--norc", "--noprofile", rows=30, columns=100) as terminal:
        terminal.until(rb"\$ ")
        terminal.press(b"stty size; echo $TERM; id -un\r")
        terminal.until(rb"30 100\r\nvt100\r\nnobody\r\n")
        terminal.resize_and_tell(44, 132)
        terminal.press(b"while [ \"$(stty size)\" != '44 132' ]; do sleep 0.1; done; echo resi''zed\r")
        terminal.until(rb"resized")
        terminal.press(b"sh -c 'echo beg''un; exec sleep 1000'\r")
        terminal.until(rb"begun\r\n")
        terminal.press(b"\x03")
        terminal.until(rb"\^C")
        terminal.press(b"echo status $?\r")
        terminal.until(rb"status 130")
        terminal.press(b"exit 7\r")
        assert terminal.end() == 7
        assert terminal.restored


def test_the_escape_leaves_and_the_shell_is_ended(sandbox: Sandbox) -> None:
    with on_terminal(sandbox, "--", "sh", "-c", "echo me $$; exec sleep 1000") as terminal:
        pid = int(terminal.until(rb"me (\d+)\r\n")[1])
        terminal.press(b"\r~.")
        assert terminal.end() == 130
        assert terminal.restored
        wait_until(lambda: gone(pid), "the remote program has ended")


@pytest.mark.usefixtures("hangups_end")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_our_own_end_restores_the_terminal_and_ends_the_shell(
    sandbox: Sandbox, number: signal.Signals, status: int
) -> None:
    with on_terminal(sandbox, "--", "sh", "-c", "echo me $$; exec sleep 1000") as terminal:
        pid = int(terminal.until(rb"me (\d+)\r\n")[1])
        terminal.process.send_signal(number)
        assert terminal.end() == status
        assert terminal.restored
        wait_until(lambda: gone(pid), "the remote program has ended")


def test_between_pipes_bytes_are_bytes_and_outputs_apart(sandbox: Sandbox) -> None:
    content = bytes(range(256)) * 4000
    finished = piped(sandbox, "sh", "-c", "cat; echo oh >&2; exit 3", stdin=content)
    assert (finished.returncode, finished.stdout, finished.stderr) == (3, content, b"oh\n")
    killed = piped(sandbox, "sh", "-c", "kill -TERM $$")
    assert killed.returncode == 128 + signal.SIGTERM
    refused = piped(sandbox, "/no/such/program")
    assert refused.returncode == 69
    assert b"No such file" in refused.stderr


def test_a_script_can_be_piped_into_the_login_shell(sandbox: Sandbox) -> None:
    finished = sandbox.trunkline("shell", "vm-1", stdin=b"cd /tmp; pwd; exit 5\n", check=False)
    assert (finished.returncode, finished.stdout) == (5, b"/tmp\n")


def test_a_relay_that_is_killed_costs_no_byte_and_no_keystroke(revived_sandbox: Sandbox) -> None:
    lines = 60_000
    script = f"stty -echo; echo ready; read go; seq {lines}; while read word; do echo got $word; done"
    with on_terminal(revived_sandbox, "--", "sh", "-c", script) as terminal:
        terminal.until(rb"ready\r\n")
        terminal.press(b"go\n")
        terminal.until(rb"\n1000\r\n")
        revived_sandbox.kill("relay")
        terminal.until(rb"trying again for 60 s")
        terminal.press(b"typed meanwhile\n")
        rest = terminal.until(rb"(?s)^(.*)\r\ntrunkline: connected again\r\n(.*got typed meanwhile\r\n)", 45)
        shown = (rest[1] + rest[2]).split(b"\r\n")
        numbers = [int(line) for line in shown if line.isdigit()]
        assert numbers[-1] == lines
        assert numbers == sorted(set(numbers)), "none twice, and in order"
        terminal.press(b"~.")
        assert terminal.end() == 130


def test_what_happened_is_in_the_audit(sandbox: Sandbox) -> None:
    piped(sandbox, "sh", "-c", "echo 12345")

    def ends() -> list[dict[str, object]]:
        events = sandbox.json("audit", "list", "--action", "shell.end")["events"]
        return [event for event in events if event["details"].get("output_bytes") == 6]

    event = wait_until(ends, "the end of the shell is reported", seconds=30)[0]
    assert event["details"]["cause"] == "exited"
    assert event["details"]["user"] == "nobody"
    assert event["details"]["subject"]


def gone(pid: int) -> bool:
    """Nodes of a sandbox are on this machine."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
