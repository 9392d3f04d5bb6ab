import os
import subprocess
from pathlib import Path

from node_agent.orphans import Orphans


def dead_child() -> int:
    """A child that has ended, and that nobody has waited for."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_child_that_stays_dead_is_waited_for():
    orphans = Orphans()
    first = dead_child()
    assert orphans.look() == 0
    assert is_there(first), "who has started it comes first"
    second = dead_child()
    assert orphans.look() == 1
    assert not is_there(first)
    assert is_there(second)
    assert orphans.look() == 1
    assert not is_there(second)


def test_what_lives_or_is_waited_for_is_left_alone():
    orphans = Orphans()
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as living:
        assert [orphans.look(), orphans.look()] == [0, 0]
        living.communicate()
        assert living.returncode == 0


async def test_only_the_first_process_looks():
    await Orphans().run()
