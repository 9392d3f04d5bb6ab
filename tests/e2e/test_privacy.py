"""What the user of a command can get at of the agent and of other commands: nothing. With real users; needs root."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sandboxes import Sandbox, running_sandbox, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run commands as others")

POLICY = "[commands]\nrun_as = 'root'\nallowed_users = ['nobody', 'daemon']\nblock_metadata = 'off'\n"
# Names every path of its standard input that it sees, reads a byte of, lists or can write.
PROBE = """
while IFS= read -r path; do
  if [ -d "$path" ]; then ls "$path/" >/dev/null 2>&1 && echo "lists $path"; [ -w "$path" ] && echo "writes $path"
  else head -c 1 "$path" 2>/dev/null | grep -q . && echo "reads $path"; [ -w "$path" ] && echo "writes $path"; fi
  case "$path" in
    */state/nodes/*/state/?*) [ -e "$path" ] && echo "sees $path";;
    */mem) (: <"$path") 2>/dev/null && echo "opens $path";;
  esac
done
exit 0
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A sandbox in a directory that every user can pass through, so that only the agent's own bars stand."""
    place = Path(tempfile.mkdtemp(prefix="trunkline-privacy-"))
    place.chmod(0o755)
    policy = place / "state" / "nodes" / "vm-1" / "policy.toml"
    policy.parent.mkdir(parents=True)
    policy.write_text(POLICY)
    policy.chmod(0o600)
    try:
        with running_sandbox(place / "state", nodes=1) as running:
            for directory in (running.state, running.state / "nodes", policy.parent):
                directory.chmod(0o755)
            yield running
    finally:
        shutil.rmtree(place, ignore_errors=True)


def probe(sandbox: Sandbox, user: str, paths: list[str]) -> list[str]:
    """Run the probe as a user; returns what it got at."""
    listed = "\n".join([*paths, ""]).encode()
    asked = ["run", "--node", "vm-1", "--user", user, "--stdin", "--", "sh", "-c", PROBE]
    return sandbox.trunkline(*asked, stdin=listed).stdout.decode().splitlines()


def of_process(pid: int) -> list[str]:
    """What /proc tells of a process to whoever may look into it."""
    names = ("environ", "maps", "mem", "auxv", "io", "fd", "cwd/", "root/", *(f"fd/{number}" for number in range(32)))
    return [f"/proc/{pid}/{name}" for name in names]


def ancestors(pid: int, until: int) -> Iterator[int]:
    """The processes from a command's own up to the agent, which it is not yet."""
    while pid not in (0, 1, until):
        yield pid
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_another_user_gets_at_nothing(sandbox: Sandbox) -> None:
    sandbox.trunkline("secret", "create-scope", "db")
    secret = sandbox.state / "value"
    secret.write_text("hunter2-of-another")
    sandbox.trunkline("secret", "put", "db/password", "--file", str(secret))
    sandbox.trunkline("secret", "grant", "db", "--node", "vm-1")
    victim = sandbox.start(
        "run", "--node", "vm-1", "--id", "victim", "--user", "daemon", "--secret-env", "PASSWORD=db/password",
        "--secret-file", "password=db/password", "--", "sh", "-c", "echo ready; exec sleep 120",
    )  # fmt: skip
    try:
        wait_until(lambda: b"ready" in sandbox.trunkline("command", "output", "victim").stdout, "the victim runs")
        pid = next(int(one.name) for one in Path("/proc").glob("[0-9]*") if is_victim(one))
        agent = sandbox.pid("vm-1")
        environment = dict(
            line.split("=", 1) for line in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in line
        )
        held = Path(environment["TRUNKLINE_SECRETS_DIRECTORY"])
        assert (held / "password").read_text() == "hunter2-of-another"
        state = sandbox.state / "nodes" / "vm-1" / "state"
        kept = [str(state), *(str(path) for path in state.rglob("*"))]
        assert any("victim" in path for path in kept)
        processes = [path for one in {agent, *ancestors(pid, agent)} for path in of_process(one)]
        wanted = [
            *kept,
            *processes,
            str(held),
            str(held / "password"),
            str(held.parent),
            str(sandbox.state / "nodes/vm-1/config.toml"),
        ]
        assert probe(sandbox, "nobody", wanted) == []
        expected = [f"/proc/{agent}/environ", f"/proc/{agent}/mem", f"/proc/{pid}/environ", str(held / "password")]
        seen = probe(sandbox, "root", [str(state), *expected])
        for path in (str(state), *expected):
            assert any(line.endswith(f" {path}") for line in seen), path
    finally:
        sandbox.trunkline("command", "cancel", "victim", check=False)
        victim.communicate(timeout=30)


def is_victim(process: Path) -> bool:
    """Whether this is the process of the command that sleeps."""
    try:
        return b"TRUNKLINE_COMMAND_ID=victim\0" in (process / "environ").read_bytes()
    except OSError:
        return False
