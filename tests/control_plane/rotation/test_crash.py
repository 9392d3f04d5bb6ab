"""kill -9, and a full disk, at fsyncs of rotations: a legal phase, one signer with its keys, and it goes on."""

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
from tests.support.crashing_rotation import ACTS

SUPPORT = Path(__file__).parents[2] / "support"
ROOT = Path(__file__).parents[3]
SECONDS = 280
WAS_FULL = 75


@pytest.fixture
def library(tmp_path: Path) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler: deploy/development/tools.sh test")
    path = tmp_path / "kill_at_sync.so"
    source = SUPPORT / "kill_at_sync.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(path), str(source), "-ldl"], check=True, capture_output=True)
    return path


def runs_with(trouble: str, stride: int, tmp_path: Path, library: Path) -> list[dict[str, int]]:
    """What became of a flow of rotations that met the trouble at one fsync each, and of the start after it."""
    asyncio.run(initialise(settings_for(tmp_path / "made")))
    made = tmp_path / "made"
    program = [sys.executable, "-m", "tests.support.crashing_rotation", str(library), str(made), str(tmp_path)]
    program += [trouble, str(stride)]
    environment = os.environ | {"LD_PRELOAD": str(library)}
    done = subprocess.run(
        program, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    runs = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [run for run in runs if run["looked"] != 0] == [], done.stderr[-4000:]
    assert runs[-1]["ended"] == 0, done.stderr[-4000:]
    return runs


@pytest.mark.timeout(SECONDS + 20)
def test_killed_at_every_fsync(tmp_path: Path, library: Path):
    ended = [run["ended"] for run in runs_with("kill", 1, tmp_path, library)]
    assert set(ended) == {-9, 0}
    assert ended.count(0) == len(ACTS), "each act comes to its end once it was killed at each of its fsyncs"
    assert ended.count(-9) > 60


@pytest.mark.timeout(SECONDS + 20)
def test_a_disk_that_is_full_at_an_fsync_is_waited_out(tmp_path: Path, library: Path):
    """In one process: a step that failed is taken again, and meanwhile what signs is whole and trusted.

    It is full at every fifth, those of the authority's and of the signing key's files among them (at each in a soak).
    """
    runs = runs_with("full", 1 if os.environ.get("TRUNKLINE_SOAK") else 5, tmp_path, library)
    assert {run["ended"] for run in runs[:-1]} == {WAS_FULL}
    assert len(runs) > 5
