"""kill -9 at each fsync of rotations: the next start finds a legal phase, one signer with its keys, and goes on."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from control_plane.initialise import initialise
from tests.support.control_planes import settings_for

SUPPORT = Path(__file__).parents[2] / "support"
ROOT = Path(__file__).parents[3]
SECONDS = 280


@pytest.fixture
def library(tmp_path: Path) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler: deploy/development/tools.sh test")
    path = tmp_path / "kill_at_sync.so"
    source = SUPPORT / "kill_at_sync.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(path), str(source), "-ldl"], check=True, capture_output=True)
    return path


@pytest.mark.timeout(SECONDS + 20)
def test_killed_at_every_fsync(tmp_path: Path, library: Path):
    asyncio.run(initialise(settings_for(tmp_path / "made")))
    state = tmp_path / "made" / "state"
    program = [sys.executable, "-m", "tests.support.crashing_rotation", str(library), str(state), str(tmp_path)]
    environment = os.environ | {"LD_PRELOAD": str(library)}
    done = subprocess.run(
        program, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    runs = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [run for run in runs if run["looked"] != 0] == [], done.stderr[-4000:]
    assert {run["ended"] for run in runs[:-1]} == {-9}
    assert runs[-1]["ended"] == 0
    assert len(runs) > 30
