"""The marks of an output's times, found by offset and page by page."""

import os
import struct
from pathlib import Path

import pytest

from node_agent.commands.output_times import Mark, read_marks

MARKS = [Mark(0, 1000), Mark(10, 1100), Mark(25, 1300), Mark(40, 9000)]


@pytest.fixture
def spool(tmp_path):
    content = b"".join(struct.pack("<QQ", *mark) for mark in MARKS)
    (tmp_path / "stdout.times").write_bytes(content + b"half")
    return tmp_path / "stdout"


@pytest.mark.parametrize(
    ("offset", "first"), [(0, 0), (9, 0), (10, 1), (11, 1), (24, 1), (25, 2), (40, 3), (1_000_000, 3)]
)
def test_the_first_mark_is_true_of_the_byte_that_was_asked_for(spool, offset, first):
    assert read_marks(spool, offset, 100) == (MARKS[first:], None)


def test_pages_follow_each_other_without_a_mark_that_is_missing_or_doubled(spool):
    page = read_marks(spool, 0, 1)
    found = page.marks
    while page.next_offset is not None:
        page = read_marks(spool, page.next_offset, 1)
        found += page.marks
    assert found == MARKS


def test_what_has_no_times_has_no_marks(tmp_path):
    assert read_marks(tmp_path / "stdout", 0, 1) == ([], None)


def test_a_fifo_in_the_place_of_the_marks_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "stdout.times")
    assert read_marks(tmp_path / "stdout", 0, 1) == ([], None)
