"""The command line against a whole installation: what an operator types, and what it prints."""

import signal
import subprocess
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.sandboxes import TRUNKLINE, Sandbox, wait_until


def test_nodes_are_listed_online_and_listen_nowhere_but_on_loopback(sandbox: Sandbox) -> None:
    wait_until(
        lambda: {node["state"] for node in sandbox.json("node", "list")["nodes"]} == {"online"}, "both nodes online"
    )
    listed = sandbox.json("node", "list")["nodes"]
    assert sorted(node["node"] for node in listed) == ["vm-1", "vm-2"]
    assert all(node["node_id"].startswith("nd-") for node in listed)
    health = sandbox.json("node", "health", "vm-1")
    assert health["load"]
    assert health["memory"]["total_bytes"] > 0


def test_a_command_streams_apart_and_exits_with_its_own_status(sandbox: Sandbox) -> None:
    script = "echo to-stdout; echo to-stderr >&2; exit 7"
    finished = sandbox.trunkline("run", "--node", "vm-1", "--", "sh", "-c", script, check=False)
    assert finished.returncode == 7
    assert finished.stdout == b"to-stdout\n"
    assert finished.stderr.splitlines()[0] == b"to-stderr"


def test_several_nodes_are_prefixed(sandbox: Sandbox) -> None:
    finished = sandbox.trunkline("run", "--all", "--", "sh", "-c", "echo one; echo two")
    lines = finished.stdout.decode().splitlines()
    assert len(lines) == 4
    for node in ("vm-1", "vm-2"):
        assert [line.split()[-1] for line in lines if line.startswith(node)] == ["one", "two"]


def test_binary_output_arrives_as_it_is(sandbox: Sandbox) -> None:
    script = r"printf '\000\001\377\033[31m\r\n'"
    finished = sandbox.trunkline("run", "--node", "vm-2", "--", "sh", "-c", script)
    assert finished.stdout == b"\x00\x01\xff\x1b[31m\r\n"


def test_arguments_are_literal(sandbox: Sandbox) -> None:
    words = ["$(id)", "`id`", "a b", "'; rm -rf /", '"', "*", "\\", "--state", "-x"]
    finished = sandbox.trunkline("run", "--node", "vm-1", "--", "printf", "%s\n", *words)
    assert finished.stdout.decode().splitlines() == words


def test_the_same_command_id_runs_once(sandbox: Sandbox) -> None:
    command_id = f"once-{uuid.uuid4()}"
    for _ in range(2):
        finished = sandbox.trunkline("run", "--node", "vm-1", "--id", command_id, "--", "sh", "-c", "echo $$")
    listed = [c for c in sandbox.json("command", "list")["commands"] if c["command_id"] == command_id]
    assert len(listed) == 1
    output = sandbox.trunkline("command", "output", command_id).stdout
    assert output == finished.stdout
    other = sandbox.trunkline("run", "--node", "vm-1", "--id", command_id, "--", "true", check=False)
    assert other.returncode not in (0, 1)
    assert b"Traceback" not in other.stderr


def test_interrupting_run_cancels_the_command_on_the_node(sandbox: Sandbox) -> None:
    command_id = f"cancelled-{uuid.uuid4()}"
    running = sandbox.start("run", "--node", "vm-1", "--id", command_id, "--", "sh", "-c", "echo up; sleep 600")
    assert running.stdout is not None
    assert running.stdout.readline() == b"up\n"
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)
    assert running.returncode == 130
    wait_until(lambda: sandbox.json("command", "get", command_id)["state"] == "CANCELLED", "the command is cancelled")


def test_output_can_be_read_again_from_any_offset(sandbox: Sandbox) -> None:
    command_id = f"again-{uuid.uuid4()}"
    sandbox.trunkline("run", "--node", "vm-1", "--id", command_id, "--", "seq", "1", "1000")
    whole = sandbox.trunkline("command", "output", command_id).stdout
    assert whole == b"".join(b"%d\n" % number for number in range(1, 1001))
    assert sandbox.trunkline("command", "output", command_id, "--offset", "1000").stdout == whole[1000:]


def test_output_says_when_it_was_written(sandbox: Sandbox) -> None:
    words = ["run", "--state", str(sandbox.state), "--node", "vm-1", "--id", "c-timed", "--stdin"]
    command = [TRUNKLINE, *words, "--", "sh", "-c", "echo one; read go; echo two"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stdout.readline() == b"one\n"
        time.sleep(0.5)
        running.communicate(b"go\n", timeout=60)
    shown = sandbox.trunkline("command", "output", "c-timed", "--timestamps").stdout.decode().splitlines()
    times = [datetime.fromisoformat(line.split()[0]) for line in shown]
    assert [line.split()[1] for line in shown] == ["one", "two"]
    assert 0.4 < (times[1] - times[0]).total_seconds() < 60
    assert abs((datetime.now(UTC) - times[1]).total_seconds()) < 60


def test_clusters_and_selectors_choose_nodes(sandbox: Sandbox) -> None:
    name = f"c-{uuid.uuid4().hex[:8]}"
    sandbox.trunkline("cluster", "create", name, "vm-2")
    finished = sandbox.trunkline("run", "--cluster", name, "--", "echo", "here")
    assert b"here" in finished.stdout
    commands = [c for c in sandbox.json("command", "list")["commands"] if c["argv"] == ["echo", "here"]]
    assert {command["node"] for command in commands} == {"vm-2"}
    sandbox.trunkline("cluster", "delete", name)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (
            ("node", "get", "no-such-node"),
            None,
            b"no such node in the workspace main; `trunkline node list -w main` lists",
        ),
        (("run", "--node", "no-such-node", "--", "true"), None, b"target.node: there is no such node"),
        (("run", "--", "true"), 64, b"--all"),
        (("command", "get", "no-such-command"), None, b"no such command in the workspace main"),
        (("nonsense",), 64, b"nonsense"),
        (("forward", "vm-1:bad"), 64, b"NODE:PORT"),
    ],
)
def test_mistakes_are_one_line_and_a_status(
    sandbox: Sandbox, words: tuple[str, ...], status: int | None, said: bytes
) -> None:
    finished = sandbox.trunkline(*words, check=False)
    assert finished.returncode >= 64 if status is None else finished.returncode == status
    assert said in finished.stderr
    assert b"Traceback" not in finished.stderr


def test_the_agent_has_no_listening_socket_but_its_admin_endpoint(sandbox: Sandbox) -> None:
    for node in sandbox.description["nodes"]:
        listening = _listening_sockets(int(node["pid"]))
        assert len(listening) == 1
        assert listening[0].startswith("0100007F:")


def _listening_sockets(pid: int) -> list[str]:
    held = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        target = str(entry.readlink())
        if target.startswith("socket:["):
            held.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in held:
                found.append(words[1])
    return found
