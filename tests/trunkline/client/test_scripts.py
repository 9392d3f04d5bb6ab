"""Scripts as a node's shell runs them: literally, whole or not at all, and without leaving anything behind."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from trunkline.client.script_loader import script_words
from trunkline.client.scripts import LARGEST_SCRIPT_BYTES, script_request


def run(
    directory: Path, content: bytes, arguments: Sequence[str] = (), stdin: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    """What an agent does with the request, in a directory that holds nothing else."""
    request = script_request(content, "test.sh", arguments)
    return run_argv(directory, request.argv, request.stdin if stdin is None else stdin)


def run_argv(directory: Path, argv: Sequence[str], stdin: bytes | None) -> subprocess.CompletedProcess[bytes]:
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "TMPDIR": str(directory)}
    return subprocess.run(list(argv), input=stdin, capture_output=True, env=environment, timeout=20, check=False)


def test_arguments_are_literal_and_the_status_is_the_scripts(tmp_path: Path) -> None:
    words = ["a b", "$(id)", "`id`", "'; exit 9 #", '"', "*", "-e", "--", "\n", ""]
    ran = run(tmp_path, b'for word; do printf "<%s>" "$word"; done; exit 7\n', words)
    assert (ran.returncode, ran.stderr) == (7, b"")
    assert ran.stdout == "".join(f"<{word}>" for word in words).encode()


def test_a_shebang_decides(tmp_path: Path) -> None:
    script = b"#!/usr/bin/env -S awk -f\nBEGIN { print ARGC, ARGV[1] }\n"
    assert run(tmp_path, script, ["x y"]).stdout == b"2 x y\n"


def test_its_standard_input_is_empty_and_nothing_is_left_while_it_runs(tmp_path: Path) -> None:
    ran = run(tmp_path, b'cat; ls -A "$TMPDIR"; echo end\n')
    assert ran.stdout == b"end\n"


def test_it_is_the_process_itself(tmp_path: Path) -> None:
    ran = run(tmp_path, b"kill -KILL $$\n")
    assert ran.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_nobody_else_may_read_it_and_it_has_the_umask_and_environment_of_any_command(tmp_path: Path) -> None:
    shown = "umask; env | grep -v -e ^_= -e ^PWD= -e ^OLDPWD= | sort"
    plain = run_argv(tmp_path, ["/bin/sh", "-c", shown], b"").stdout
    assert run(tmp_path, f"stat -L -c %a /proc/self/fd/9; {shown}\n".encode()).stdout == b"700\n" + plain


@pytest.mark.parametrize("arrived", [b"", b"touch ran\n", b"touch ran\nmore than there was\n"])
def test_a_part_of_it_is_never_run(tmp_path: Path, arrived: bytes) -> None:
    ran = run(tmp_path, b"touch ran\nexit 0\n", stdin=arrived)
    assert (ran.returncode, b"did not arrive whole" in ran.stderr) == (126, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, LARGEST_SCRIPT_BYTES + 1])
def test_its_size_is_bounded(size: int) -> None:
    with pytest.raises(ValueError, match="bytes"):
        script_request(b"#" * size, "x")


def test_listings_show_a_script_by_its_name() -> None:
    assert script_words(script_request(b"true\n", "x.sh", ["a", "b"]).argv) == ["x.sh", "a", "b"]
    assert script_words(["/bin/sh", "-c", "echo", "x.sh", "1", ""]) is None


@pytest.mark.parametrize("content", [b"#!/bin/sh\r\nexit 0\r\n", b"#!/usr/bin/env python3\r\n"])
def test_an_interpreter_that_ends_in_a_carriage_return_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="CR LF"):
        script_request(content, "x.sh")
    assert script_request(content.replace(b"\r", b""), "x.sh").argv
    assert script_request(b"echo 1\r\n#!\r\n", "x.sh").argv, "which sh reads"
