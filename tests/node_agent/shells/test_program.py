import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest

from node_agent.commands.accounts import Account, find_account
from node_agent.commands.proc import processes_of_runs
from node_agent.rules.limits import Limits
from node_agent.shells.program import Program, ProgramPlan, StartFailed
from node_agent.shells.request import ShellRequest, plan_of
from node_agent.supervisor.cgroups import Group
from node_agent.supervisor.tree import state_and_parent
from tests.support.keyrings import ASKING, own_keyring


def plan(account: Account, *argv: str, terminal: bool = True, **limits: int) -> ProgramPlan:
    return plan_of(ShellRequest(argv=list(argv), terminal=terminal), account, "/bin/sh", "one", Limits(**limits))


async def start(*argv: str, terminal: bool = True, user: str | None = None, **limits: int) -> Program:
    account = await asyncio.to_thread(find_account, user)
    return await Program.start(account, plan(account, *argv, terminal=terminal, **limits), 40, 132)


async def ended(program: Program) -> tuple[bytes, int | None]:
    """Everything that it shows, and its status."""
    shown = b""
    status = await program.status
    for descriptor in program.ends.outputs:
        try:
            while content := os.read(descriptor, 65536):
                shown += content
        except OSError:
            pass
    program.ends.close()
    return shown, status


async def test_a_program_is_on_a_terminal_of_its_own_with_the_size_that_was_asked_for():
    shown, status = await ended(await start("sh", "-c", "tty; stty size; ps -o stat= -p $$; exit 7"))
    lines = shown.decode().split()
    assert lines[0].startswith("/dev/pts/")
    assert lines[1:3] == ["40", "132"]
    assert "s" in lines[3], "it leads its session"
    assert "+" in lines[3], "and is in the foreground of its terminal"
    assert status == 7


async def test_it_has_a_keyring_of_its_own():
    shown, _ = await ended(await start(*ASKING, terminal=False))
    assert int(shown) > 0
    assert shown.strip() != own_keyring()


async def test_nothing_of_the_agent_is_inherited():
    os.environ["AGENTS_OWN"] = "secret"
    shown, _ = await ended(await start("sh", "-c", "env; ls /proc/self/fd; umask", terminal=False))
    text = shown.decode()
    assert "AGENTS_OWN" not in text
    assert "TRUNKLINE_SHELL_ID=one" in text
    assert "TERM=" not in text
    assert text.split()[-5:] == ["0", "1", "2", "3", "0022"], "no descriptor but the three, and that of ls itself"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes its user")
async def test_it_is_the_user_through_and_through():
    script = "cat /proc/self/status; stat -c '%U %a' $(tty); kill -0 1 || echo refused"
    shown, _ = await ended(await start("sh", "-c", script, user="nobody"))
    text = shown.decode()
    assert "Uid:\t65534\t65534\t65534\t65534" in text
    assert "Gid:\t65534\t65534\t65534\t65534" in text
    assert "CapEff:\t0000000000000000" in text
    assert "nobody 600" in text
    assert "refused" in text


async def test_what_cannot_be_started_says_why():
    with pytest.raises(StartFailed, match="No such file"):
        await start("/no/such/program")
    with pytest.raises(StartFailed, match="Permission denied"):
        await start("/etc/passwd")


async def test_signals_go_to_the_foreground(until):
    program = await start("sh", "-c", "trap 'exit 3' INT; echo ready; while :; do sleep 0.05; done")
    shown = b""

    def ready() -> bool:
        nonlocal shown
        with contextlib.suppress(BlockingIOError):
            shown += os.read(program.ends.outputs[0], 1000)
        return b"ready" in shown

    await until(ready)
    program.signal("INT", foreground=True)
    assert (await ended(program))[1] == 3


async def test_with_the_first_program_goes_whatever_it_has_started(tmp_path):
    noted = tmp_path / "pids"
    script = f"""
    trap '' HUP
    sh -c 'trap "" HUP TERM; echo $$ >> {noted}; while :; do sleep 1; done' &
    setsid sh -c 'trap "" HUP TERM; echo $$ >> {noted}; (while :; do sleep 1; done) & exec sleep 1000' &
    while [ $(wc -l < {noted}) -lt 2 ]; do sleep 0.05; done
    """
    noted.touch()
    program = await start("sh", "-c", script)
    await ended(program)
    for pid in map(int, noted.read_text().split()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_hanging_up_ends_even_what_ignores_it(until):
    # Not a loop: a shell whose group takes no new process any more may end by itself before it is killed.
    program = await start("sh", "-c", "trap '' HUP TERM INT; echo ready; exec sleep 1000")
    await shows(program, b"ready", until)
    program.hang_up()
    assert (await ended(program))[1] == -signal.SIGKILL


async def test_a_session_goes_with_its_agent(until):
    program = await start("sh", "-c", "exec sleep 1000")
    program._writer.transport.abort()  # as the kernel does when the agent dies
    await program.status
    program.ends.close()


async def shows(program: Program, word: bytes, until) -> bytes:
    shown = b""

    def there() -> bool:
        nonlocal shown
        with contextlib.suppress(BlockingIOError):
            shown += os.read(program.ends.outputs[0], 1000)
        return word in shown

    await until(there)
    return shown


def living(run_id: str) -> list[int]:
    return [pid for pid in processes_of_runs({run_id}) if (found := state_and_parent(pid)) and found[0] not in "ZX"]


def run_of(program: Program) -> str:
    return str(program._claim["run_id"])


async def test_a_fork_bomb_is_bounded_and_leaves_nothing(until):
    bomb = "echo armed; exec perl -e 'fork while 1'"
    program = await start("sh", "-c", bomb, terminal=False, processes=40, open_files=64)
    await shows(program, b"armed", until)
    run_id, groups = run_of(program), program._claim["groups"]
    members = Group(groups).members
    await until(lambda: len(members()) > 30)
    assert len(members()) <= 40
    program.hang_up()
    await ended(program)
    assert living(run_id) == []
    assert not any(os.access(directory, os.F_OK) for directory in groups.values())


async def test_memory_is_bounded(until):
    script = "head -c 300M /dev/zero | tail >/dev/null; echo status $?"
    shown, _ = await ended(await start("sh", "-c", script, terminal=False, memory_bytes=50 * 1024**2))
    assert b"status 0" not in shown
    limit, _ = await ended(await start("sh", "-c", "ulimit -n", terminal=False, open_files=77))
    assert limit == b"77\n"


async def test_what_a_killed_keeper_leaves_is_ended_by_the_agent(until):
    script = "setsid sh -c 'trap \"\" HUP TERM; while :; do sleep 1; done' & echo started; sleep 1000"
    program = await start("sh", "-c", script, terminal=False)
    await shows(program, b"started", until)
    run_id = run_of(program)
    await until(lambda: len(living(run_id)) >= 2)
    os.kill(program._popen.pid, signal.SIGKILL)
    assert await program.status is None
    assert living(run_id) == []
    program.ends.close()


AS_NOBODY = """
import asyncio
import os

from node_agent.commands.accounts import find_account
from node_agent.rules.limits import Limits
from node_agent.shells.program import Program
from node_agent.shells.request import ShellRequest, plan_of


async def main():
    account = find_account("nobody")
    request = ShellRequest(argv=["sh", "-c", "id -un; stat -c '%U %a' $(tty)"])
    plan = plan_of(request, account, "/bin/sh", "one", Limits(processes=64))
    program = await Program.start(account, plan, 24, 80)
    status = await program.status
    print(os.read(program.ends.outputs[0], 65536).decode(), status)


asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives capabilities up")
async def test_the_capabilities_of_the_unit_suffice():
    unit = (Path(__file__).parents[3] / "deploy/node-agent/trunkline-node-agent.service").read_text()
    line = next(line for line in unit.splitlines() if line.startswith("CapabilityBoundingSet="))
    kept = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in line.partition("=")[2].split())
    done = await asyncio.create_subprocess_exec(
        "setpriv", f"--bounding-set=-all,{kept}", "--inh-caps=-all", sys.executable, "-c", AS_NOBODY,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    shown, complaint = await done.communicate()
    assert shown.split() == [b"nobody", b"nobody", b"600", b"0"], complaint.decode()
