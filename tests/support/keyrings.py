"""Session keyrings, as keyctl(2) tells of them to a program that asks."""

import platform
import subprocess
import sys

import pytest

_NUMBER = {"x86_64": 250, "aarch64": 219}.get(platform.machine())
ASKING = (sys.executable, "-c", f"import ctypes; print(ctypes.CDLL(None).syscall({_NUMBER}, 0, -3, 0))")
"""A program that writes which keyring it has."""


def own_keyring() -> bytes:
    """What the program writes as a child of ours; the test is skipped where there are no keyrings."""
    if _NUMBER is None:
        pytest.skip("the number of keyctl(2) is not known here")
    written = subprocess.run(ASKING, capture_output=True, check=True, timeout=20).stdout.strip()
    if int(written) < 0:
        pytest.skip("there are no keyrings here")
    return written
