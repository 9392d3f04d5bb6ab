"""Prefixes, whole lines, and control characters."""

from __future__ import annotations

import io

import pytest

from trunkline.cli.remote_output import LONGEST_LINE_BYTES, PrefixedOutput, neutralised, outputs_for


def prefixed(*pieces: bytes, neutralise: bool = False) -> bytes:
    destination = io.BytesIO()
    output = PrefixedOutput(destination, b"n | ", neutralise=neutralise)
    for piece in pieces:
        output.write(piece)
    output.close()
    return destination.getvalue()


def test_lines_are_whole_however_they_come() -> None:
    assert prefixed(b"a", b"b\nc", b"\n\nd") == b"n | ab\nn | c\nn | \nn | d\n"


def test_a_line_without_end_is_broken() -> None:
    lines = prefixed(b"x" * (LONGEST_LINE_BYTES + 10)).splitlines()
    assert [len(line) for line in lines] == [LONGEST_LINE_BYTES + 4, 14]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"a\x1b[2Jb\tc", b"a^[[2Jb\tc"),
        (b"\x00\x7f\x08", b"^@^?^H"),
        (b"over\rwritten", b"over^Mwritten"),
        ("ü €".encode(), "ü €".encode()),
        (b"\xc2\x9b31m", b"\\x9b31m"),
        (b"\xff\xfe", b"\xff\xfe"),
    ],
)
def test_control_characters_are_shown_and_text_is_kept(line: bytes, shown: bytes) -> None:
    assert neutralised(line) == shown
    assert prefixed(line + b"\r\n", neutralise=True) == b"n | " + shown + b"\n"


def test_one_node_has_no_prefix_and_several_are_aligned() -> None:
    stdout, stderr = io.BytesIO(), io.BytesIO()
    outputs_for(["vm-1"], stdout, stderr)("vm-1", "stderr").write(b"raw\x1b")
    assert (stdout.getvalue(), stderr.getvalue()) == (b"", b"raw\x1b")
    outputs_for(["vm-1", "vm-10"], stdout, stderr)("vm-1", "stdout").write(b"x\n")
    assert stdout.getvalue() == b"vm-1  | x\n"


class Terminal(io.BytesIO):
    """What says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_output_of_one_node_steers_nothing() -> None:
    terminal = Terminal()
    output = outputs_for(["vm-1"], terminal, terminal)("vm-1", "stdout")
    for piece in (b"50%\r\x1b]0;title\x07", b"a\tb\n\xc2", b"\x9b31m", b"\xc3\xbc\xc2", b"\xa9", b"\xc2"):
        output.write(piece)
    output.close()
    assert terminal.getvalue() == "50%\r^[]0;title^Ga\tb\n\\x9b31mü©\\xc2".encode()


def test_two_outputs_on_a_terminal_make_no_control_character_together() -> None:
    terminal = Terminal()
    output_for = outputs_for(["vm-1"], terminal, terminal)
    stdout, stderr = output_for("vm-1", "stdout"), output_for("vm-1", "stderr")
    stdout.write(b"\xc2")
    stdout.close()
    stderr.write(b"\x9b31m")
    assert "\x9b" not in terminal.getvalue().decode("utf-8", "replace")


def test_a_nodes_name_steers_no_terminal() -> None:
    destination = io.BytesIO()
    for node in ("vm-1\x1b[2J", "\udcff"):
        outputs_for([node, "vm-2"], destination, destination)(node, "stdout").write(b"a\n")
    assert b"\x1b" not in destination.getvalue()
