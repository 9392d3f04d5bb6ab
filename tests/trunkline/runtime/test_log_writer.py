"""A log that nobody reads holds up nobody."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from trunkline.runtime.daemon_metrics import daemon_registry
from trunkline.runtime.log_writer import log_remark, log_writer
from trunkline.runtime.logs import configure_logging, get_logger

PIPE_BYTES = 4096


@dataclass
class Reader:
    """The other end of the pipe that a daemon logs to."""

    descriptor: int
    writing: int

    def fill(self) -> None:
        """Leave no room in the pipe, as one who has stopped reading does."""
        other = os.open(f"/proc/self/fd/{self.writing}", os.O_WRONLY | os.O_NONBLOCK)
        with suppress(BlockingIOError):
            while True:
                os.write(other, b"." * 64)
        os.close(other)

    def lines_until(self, last: str) -> list[str]:
        """Read on until a line with these words has come."""
        text = b""
        while last.encode() not in text:
            text += os.read(self.descriptor, PIPE_BYTES)
        return text.decode().lstrip(".").splitlines()


@pytest.fixture
def reader(restored_logging: None) -> Iterator[Reader]:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with os.fdopen(writing, "w") as stream:
        configure_logging("info", "json", stream=stream)
        yield Reader(reading, writing)
        with suppress(OSError):
            os.close(reading)
        logging.shutdown([log_writer])  # as at the end of the process


def flush() -> None:
    writer = log_writer()
    assert writer is not None
    writer.flush()


def test_who_logs_does_not_wait_for_one_who_has_stopped_reading(reader):
    reader.fill()
    for number in range(3):
        get_logger("relay").info("relay.cut", number=number)
    read = [line for line in reader.lines_until('"number": 2') if "relay.cut" in line]
    assert [line.split('"number": ')[1][0] for line in read] == ["0", "1", "2"]
    flush()
    assert log_remark() is None


def test_what_is_too_much_is_lost_counted_and_told_once_lines_are_taken_again(reader):
    registry = daemon_registry()
    reader.fill()
    writer = log_writer()
    assert writer is not None
    while writer.lost < 3:
        get_logger("relay").info("long", text="x y " * 2000)
    remark = log_remark()
    assert remark is not None
    assert remark.startswith("nobody takes what is logged: ")
    assert remark.endswith(" lines wait, and 3 are lost")
    assert registry.get_sample_value("trunkline_log_lines_lost_total") == 3
    assert reader.lines_until("log.lines_lost: 3, which nobody took")
    flush()
    get_logger("relay").info("relay.ready")
    assert reader.lines_until("relay.ready")
    assert log_remark() is None


def test_where_nobody_reads_any_more_the_daemon_goes_on(reader):
    os.close(reader.descriptor)
    get_logger("relay").info("relay.cut")
    flush()
    assert log_remark() == "nobody takes what is logged: 0 lines wait, and 1 are lost"
