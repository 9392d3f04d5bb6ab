"""Load from wrk: kept-alive TLS connections that send one request after the other, and what came of it."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.machine import IDLE_PRIORITY, LOAD_CORE, cpu_seconds, pinned

LONGEST_SECONDS = 600
_COUNTED = re.compile(r"RESULT (\{.*\})")
_REPORT = """
function done(summary, latency, requests)
  local errors = summary.errors
  local form = '"requests":%d,"bytes":%d,"microseconds":%d,"statuses":%d,"failures":%d,"p50":%d,"p99":%d'
  print(string.format('RESULT {' .. form .. '}', summary.requests, summary.bytes, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout, latency:percentile(50), latency:percentile(99)))
end
"""
# Of a head that is ready one with a field more, before the empty line at its end.
_TRACED = """
local traces = 0
function traced(head)
  traces = traces + 1
  local field = string.format("traceparent: 00-%032x-%016x-01", traces * 7919, traces)
  return string.sub(head, 1, -3) .. field .. "\\r\\n\\r\\n"
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """One kind of request.

    Attributes:
        url: where all requests go, or their common `https://host:port`.
        headers: fields of each request.
        requests: (path, headers) given to the connections in turn, instead of the URL's path.
        connections: kept-alive connections, each with one request at a time.
        body_bytes: size of each request's content; 0 means GET.
        differing: each request has a `traceparent` of its own, and no head is like another.
    """

    url: str
    headers: dict[str, str]
    requests: tuple[tuple[str, dict[str, str]], ...] = ()
    connections: int = 64
    body_bytes: int = 0
    differing: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run of wrk did, and what it cost the process under test."""

    requests: int
    response_bytes: int
    seconds: float
    cpu_seconds: float
    p50_milliseconds: float
    p99_milliseconds: float

    @property
    def cpu_microseconds_per_request(self) -> float:
        """CPU time of the process under test for one request.

        Raises:
            LoadError: not one request was finished.
        """
        if not self.requests:
            raise LoadError("no request was finished in the time given")
        return self.cpu_seconds / self.requests * 1e6


class LoadError(Exception):
    """Requests failed, so that the run says nothing."""


def run_wrk(load: Load, seconds: float, *pids: int, priority: tuple[str, ...] = ()) -> Measured:
    """Send the load for some seconds and measure the processes meanwhile, their CPU time added up.

    `priority` goes in front of wrk's command; see `FIRST_PRIORITY`.

    Raises:
        LoadError: a connection failed or an answer was no success.
    """
    with tempfile.TemporaryDirectory() as directory:
        command = [*priority, *_command(load, seconds, Path(directory))]
        before = cpu_seconds(*pids)
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        used = cpu_seconds(*pids) - before
    return _read(answer, used)


@contextmanager
def running_wrk(load: Load) -> Iterator[None]:
    """Send the load, for as long as the block runs; what comes of it is not looked at.

    It runs when nothing else wants its core, so that who is measured beside it waits for the process under test alone.
    """
    with tempfile.TemporaryDirectory() as directory:
        command = [*IDLE_PRIORITY, *_command(load, LONGEST_SECONDS, Path(directory))]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.kill()
            process.wait(10)


def _command(load: Load, seconds: float, directory: Path) -> list[str]:
    script = directory / "load.lua"
    script.write_text(_script(load))
    command = ["wrk", "-t1", f"-c{load.connections}", f"-d{max(1, round(seconds))}s", "--timeout", "20s"]
    command += [argument for name, value in load.headers.items() for argument in ("-H", f"{name}: {value}")]
    return pinned(LOAD_CORE, [*command, "-s", str(script), load.url])


def _read(answer: subprocess.CompletedProcess[str], used: float) -> Measured:
    found = _COUNTED.search(answer.stdout)
    if found is None:
        raise LoadError(answer.stdout + answer.stderr)
    counted = json.loads(found[1])
    if counted["statuses"] or counted["failures"] or not counted["bytes"]:
        raise LoadError(f"{counted} {answer.stderr}")
    return Measured(
        requests=counted["requests"],
        response_bytes=counted["bytes"],
        seconds=counted["microseconds"] / 1e6,
        cpu_seconds=used,
        p50_milliseconds=counted["p50"] / 1e3,
        p99_milliseconds=counted["p99"] / 1e3,
    )


def _script(load: Load) -> str:
    lines = [_REPORT, _TRACED]
    if load.body_bytes:
        lines.append('wrk.method = "PUT"')
        lines.append(f'wrk.body = string.rep("x", {load.body_bytes})')
    if load.requests:
        # wrk asks for the next request of whichever connection is free, so in turn means evenly.
        lines.append("local made, at = {}, 0\nfunction init(arguments)")
        for path, headers in load.requests:
            fields = ", ".join(f"[{_quoted(name)}] = {_quoted(value)}" for name, value in headers.items())
            lines.append(f"  table.insert(made, wrk.format(nil, {_quoted(path)}, {{{fields}}}))")
        made = "traced(made[at])" if load.differing else "made[at]"
        lines.append(f"end\nfunction request()\n  at = at % #made + 1\n  return {made}\nend")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
