"""What a copying shows: nothing that a node could steer the terminal with, and breaks once."""

import pytest

from trunkline.cli.copy_display import CopyDisplay, size_text
from trunkline.client.errors import CallInterrupted


def test_lines_say_what_happened_and_steer_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    display = CopyDisplay(quiet=False)
    listener = display.listener()
    listener.begun("a", 3000)
    listener.moved(2000)
    listener.cut(CallInterrupted("the link was lost"))
    listener.cut(CallInterrupted("the link was lost"))
    listener.resumed("a", 2000)
    listener.moved(1000)
    listener.left_out("\x1b[2Jb\n", "no\x07")
    display.finish(1)
    said = capsys.readouterr().err.splitlines()
    assert said[:3] == [
        "trunkline: the link was lost; trying again",
        "trunkline: a: goes on at 2.0 KiB",
        "trunkline: \\x1b[2Jb\\x0a was left out: no\\x07",
    ]
    assert said[3].startswith("1 file, 2.9 KiB in ")
    assert len(said) == 4


def test_quietly_only_what_went_wrong_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    display = CopyDisplay(quiet=True)
    listener = display.listener()
    listener.resumed("a", 5)
    listener.left_out("b", "no")
    display.finish(0)
    assert capsys.readouterr().err == "trunkline: b was left out: no\n"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (2**50, "1024.0 TiB")]
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text
