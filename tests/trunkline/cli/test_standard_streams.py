"""Standard streams that were closed before we were started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import os, sys
from trunkline.cli.standard_streams import open_standard_streams
open_standard_streams()
opened = os.open(sys.argv[1], os.O_RDWR)
print("to nobody", flush=True)
print("nor this", file=sys.stderr, flush=True)
os.write(opened, f"{opened > 2} {sys.stdin.read()!r} {os.get_inheritable(1)} {sys.stdin.name}".encode())
"""


def test_what_is_closed_is_not_given_to_the_first_file_that_is_opened(tmp_path: Path) -> None:
    told = tmp_path / "told"
    told.touch()
    shell = 'exec "$0" -c "$1" "$2" <&- >&- 2>&-'
    subprocess.run(["/bin/sh", "-c", shell, sys.executable, CODE, str(told)], check=True, timeout=30)
    assert told.read_text() == "True '' True <stdin>"
