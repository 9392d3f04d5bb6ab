"""One token of SoftHSM2 for the tests of a process: the module reads its configuration once."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

LABEL = "ca"
PIN = "4321"
_MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
_FOUND = [Path(path) for path in _MODULES if Path(path).exists()]

needs_softhsm = pytest.mark.skipif(
    not _FOUND or shutil.which("softhsm2-util") is None,
    reason="SoftHSM2 is not installed: deploy/development/tools.sh test",
)


@functools.cache
def softhsm_module() -> Path:
    """The module, with a token in a directory of this process's own."""
    directory = Path(tempfile.mkdtemp(prefix="trunkline-softhsm-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    (directory / "tokens").mkdir()
    configuration = directory / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {directory / 'tokens'}\n")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    command = ["softhsm2-util", "--init-token", "--free", "--label", LABEL, "--so-pin", "1234", "--pin", PIN]
    subprocess.run(command, check=True, capture_output=True)
    return _FOUND[0]


def pin_file(directory: Path) -> Path:
    """A private file with the token's PIN."""
    path = directory / "pin"
    path.touch(mode=0o600)
    path.write_text(f"{PIN}\n")
    return path
