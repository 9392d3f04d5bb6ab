"""A short run of every target, from its corpus; long ones are `make fuzz`."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

RUNS = {"session-pair": 500}
MOST_RUNS = 5000


def test_every_target_has_a_corpus() -> None:
    corpus = Path(__file__).parent / "corpus"
    assert {directory.name for directory in corpus.iterdir()} == set(TARGETS)
    assert all(any(directory.iterdir()) for directory in corpus.iterdir())


@pytest.mark.parametrize("target", TARGETS)
def test_a_short_run_finds_nothing(target: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this platform")
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.fuzz.run", target, f"-runs={RUNS.get(target, MOST_RUNS)}", "-seed=1"]
    done = subprocess.run(
        [*command, f"-artifact_prefix={tmp_path}/"], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert not list(tmp_path.iterdir())
