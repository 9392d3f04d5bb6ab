"""A peer's faults are told in one line, ours with their tracebacks."""

import io
import logging

import pytest
from aiohttp.http_exceptions import BadStatusLine, InvalidHeader, LineTooLong

from trunkline.runtime.logs import LogLevel, configure_logging
from trunkline.runtime.peer_faults import FAULTS_AT_ONCE, WINDOW_SECONDS, PeerFaults

pytestmark = pytest.mark.usefixtures("restored_logging")


def logged(error: Exception, level: LogLevel = "info") -> str:
    stream = io.StringIO()
    configure_logging(level, "json", stream=stream)
    try:
        raise error
    except Exception:
        logging.getLogger("aiohttp.server").exception("Error handling request from %s", "127.0.0.1")
    return stream.getvalue()


@pytest.mark.parametrize("error", [BadStatusLine("x" * 500), ConnectionResetError(), BrokenPipeError()])
def test_a_peers_fault_is_one_line_without_a_traceback(error: Exception) -> None:
    line = logged(error)
    assert line.count("\n") == 1
    assert "Traceback" not in line
    assert '"level": "info"' in line
    assert "request from 127.0.0.1: " in line
    assert "error handling" not in line.lower()
    assert len(line) < 400


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    line = logged(KeyError("x"))
    assert "Traceback" in line
    assert '"level": "error"' in line


def test_nothing_that_the_peer_sent_is_in_the_line() -> None:
    for error in (BadStatusLine("a\r\nb\x1b[31m"), LineTooLong(b"dG9rZW4", "8190"), InvalidHeader(b"dG9rZW4")):
        line = logged(error)
        assert line.count("\n") == 1
        assert "dG9rZW4" not in line
        assert "31m" not in line
        assert f"malformed request: {type(error).__name__}" in line


def test_where_information_is_not_written_a_peers_fault_is_not() -> None:
    assert logged(ConnectionResetError(), "warning") == ""
    assert "Traceback" in logged(KeyError("x"), "warning")


def test_of_many_faults_a_few_are_told_and_how_many_were_not_by_the_next() -> None:
    now = 100.0
    faults = PeerFaults(monotonic=lambda: now)

    def told(error: Exception) -> str | None:
        record = logging.LogRecord("h", logging.ERROR, "h.py", 1, "Error handling it", (), (type(error), error, None))
        return record.getMessage() if faults.filter(record) else None

    lines = [told(BadStatusLine("x")) for _ in range(FAULTS_AT_ONCE + 40)]
    assert lines.count(None) == 40
    assert lines[0] == "it: malformed request: BadStatusLine"
    assert told(KeyError("ours")) == "Error handling it"
    now += WINDOW_SECONDS
    assert told(ConnectionResetError()) == "it: the caller went away (40 faults of callers before were not written)"
    assert told(ConnectionResetError()) == "it: the caller went away"
