"""A peer's faults are told in one line, ours with their tracebacks."""

import io
import logging

import pytest
from aiohttp.http_exceptions import BadStatusLine, InvalidHeader, LineTooLong

from trunkline.runtime.logs import LogLevel, configure_logging

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
