"""What a sandbox needs beside the command itself."""

import os
from pathlib import Path

import pytest

from trunkline.cli.main import main
from trunkline.sandbox import installed

OURS = ["click>=8.2", "psutil>=7; extra == 'agent'", 'SQLAlchemy[asyncio]>=2.1.0b1; extra == "control-plane"']
NONE = "no-such-package-anywhere"


@pytest.mark.parametrize(
    ("requirements", "missing"),
    [
        (OURS, None),
        (None, None),
        ([*OURS, f"{NONE}>=1; extra == 'control-plane'"], NONE),
        ([*OURS, f"{NONE}[x]<4,>=3; (python_version < '9') and extra == 'agent'"], NONE),
        ([*OURS, f"{NONE}; extra == 'dev'", f"{NONE}>=1; extra == 'speed'"], None),
    ],
)
def test_what_daemons_need_has_to_be_there(requirements: list[str] | None, missing: str | None) -> None:
    assert installed.missing_package(requirements) == missing


def test_up_without_the_daemons_packages_is_a_line_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.metadata.requires", lambda name: [f"{NONE}>=1; extra == 'agent'"])
    state = tmp_path / "state"
    assert main(["up", "--state", str(state)]) == os.EX_UNAVAILABLE
    assert capsys.readouterr().err == (
        f"trunkline: a sandbox needs the package {NONE}: pip install 'trunkline[sandbox]'\n"
    )
    assert not state.exists()
