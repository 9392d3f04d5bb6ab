"""The environment for development: a Python that is too old is told as that, before anything is made with it."""

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "deploy" / "development" / "environment.sh"

OLD = """#!/bin/sh
[ "$1" = -V ] && echo "Python 3.10.12" && exit
[ "$1" = -c ] && exit 1
mkdir -p "$3"
"""


def make_environment(directory: Path, python: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", SCRIPT, directory],
        env={**os.environ, "PYTHON": str(python)},
        cwd=directory.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_python_that_is_too_old_or_not_there_is_told_and_nothing_is_made(tmp_path: Path) -> None:
    old, environment = tmp_path / "python3", tmp_path / "environment"
    old.write_text(OLD)
    old.chmod(0o755)
    for python, what in ((old, "is Python 3.10.12"), (tmp_path / "none", "is not there")):
        made = make_environment(environment, python)
        assert made.returncode == os.EX_UNAVAILABLE
        assert made.stderr == (
            f"Python 3.11 or newer is needed, and {python} {what}: install one, and name it, as in "
            "PYTHON=python3.12 make up\n"
        )
        assert not environment.exists()
