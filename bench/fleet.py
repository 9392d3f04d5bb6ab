"""The rows that are about links and not about load: memory of idle agents, and the way back after a kill."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from bench.calls import authorization
from bench.credentials import NodeCredentials
from bench.machine import LOAD_CORE, cpu_seconds, resident_kib
from bench.ports import POLL_SECONDS
from bench.relay import Relay, listening
from bench.rows import Row
from certs.tls import client_context

IDLE_CPU = "CPU for idle agents"
FIRST_CALL = "first call after a kill -9, from the open port"
SETTLE_SECONDS = 3.0
IDLE_SECONDS = 20.0
FIRST_CALL_SECONDS = 20.0


def idle_memory(count: int) -> str:
    """The name of the row that says what the relay grows by for each of so many agents."""
    return f"memory of an idle agent, of {count}"


def idle_agents(relay: Relay, credentials_file: Path, count: int) -> Iterator[Row]:
    """How much the relay grows for each idle agent, real TLS links and all; then what keeping them costs it."""
    cpu = Row(f"{IDLE_CPU}, {count} of them", "% of a core", 2, bound_is_ratio=False)
    before = resident_kib(relay.pid)
    with listening(relay, credentials_file, LOAD_CORE):
        yield _growth(relay, before, count, 49)
        # Long enough for each link to be pinged once.
        began, used = time.monotonic(), cpu_seconds(relay.pid)
        time.sleep(IDLE_SECONDS)
        cpu.relay.append((cpu_seconds(relay.pid) - used) / (time.monotonic() - began) * 100)
        yield cpu


def many_idle_agents(relay: Relay, credentials_files: Sequence[Path], count: int) -> Row:
    """The same growth for so many agents that one core does not dial for all of them in time: both do, in turn."""
    before = resident_kib(relay.pid)
    with ExitStack() as stack:
        with ThreadPoolExecutor(len(credentials_files)) as threads:
            fleets = [listening(relay, file, core) for core, file in enumerate(credentials_files)]
            list(threads.map(stack.enter_context, fleets))
        return _growth(relay, before, count, 56)


def _growth(relay: Relay, before_kib: int, count: int, bound_kib: int) -> Row:
    time.sleep(SETTLE_SECONDS)
    row = Row(idle_memory(count), "KiB", bound_kib, bound_is_ratio=False)
    row.relay.append((resident_kib(relay.pid) - before_kib) / count)
    return row


def first_call(relay: Relay, credentials_file: Path, node: NodeCredentials, roots: Path, repetitions: int) -> Row:
    """From the relay's port being open again to the first call that succeeds, the agent on its own back-off."""
    row = Row(FIRST_CALL, "s", 0.15, bound_is_ratio=False)
    with listening(relay, credentials_file, LOAD_CORE):
        for _ in range(repetitions):
            relay.kill()
            opened_at = relay.start()
            row.relay.append(asyncio.run(_until_success(relay.url, node, roots)) - opened_at)
    return row


async def _until_success(url: str, node: NodeCredentials, roots: Path) -> float:
    """Try, each time on a new connection, until a call succeeds; return when that was, in monotonic seconds.

    Raises:
        TimeoutError: none has.
    """
    parts = urlsplit(url)
    context = client_context(ca_file=roots)
    lines = [f"GET {node.gateway}/small HTTP/1.1", f"Host: {parts.netloc}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in authorization(node).items()]
    request = ("\r\n".join(lines) + "\r\n\r\n").encode()
    async with asyncio.timeout(FIRST_CALL_SECONDS):
        while True:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
            try:
                writer.write(request)
                answer = await reader.readline()
            finally:
                writer.transport.abort()
            if answer.startswith(b"HTTP/1.1 200 "):
                return time.monotonic()
            await asyncio.sleep(POLL_SECONDS)
