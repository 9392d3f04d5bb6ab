"""What end-to-end tests take for the command line is the command line."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.forked_commands import run_trunkline
from tests.support.sandboxes import TRUNKLINE


@pytest.mark.parametrize("arguments", [["--version"], ["run", "--no-such"], ["node", "list"]])
def test_forked_or_started_by_its_name_a_command_prints_and_ends_alike(arguments: list[str], tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    forked = run_trunkline(arguments, timeout=30, directory=tmp_path, environment=environment)
    started = subprocess.run(
        [TRUNKLINE, *arguments], cwd=tmp_path, env=environment, capture_output=True, timeout=30, check=False
    )
    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)


def test_one_that_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    """It waits for whoever writes its token."""
    token_file = tmp_path / "token"
    os.mkfifo(token_file)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TRUNKLINE_CONTROL_PLANE_URL": "https://localhost:1",
        "TRUNKLINE_TOKEN_FILE": str(token_file),
    }
    with pytest.raises(subprocess.TimeoutExpired):
        run_trunkline(["node", "list"], timeout=1.0, directory=tmp_path, environment=environment)
