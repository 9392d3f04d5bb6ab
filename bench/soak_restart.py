"""A bounded soak of restarts: `python -m bench.soak_restart`, or `make soak-restart`; some four minutes.

Two relays behind one address (HAProxy, TLS passed through, readiness checked), listeners that are linked to both, and
calls at a given rate, half of them by the SDK over the relays' own addresses, half by a plain HTTP client with
kept-alive connections through HAProxy; beside them downloads that take seconds. Meanwhile the relays are restarted in
turn. Prints what failed; exits 1 if anything did, or if a relay logged an error.
"""

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from bench.build import Build
from bench.calls import authorization
from bench.credentials import Credentials, NodeCredentials
from bench.haproxy import running_haproxy
from bench.machine import LOAD_CORE
from bench.relay import listening
from bench.restarted_relay import RestartedRelay
from trunkline.client.node_sender import NodeSender
from trunkline.client.records.relays import RelayAddress
from trunkline.client.records.tokens import AccessToken
from trunkline.client.relays import Relays
from trunkline.client.routing import Route

DOWNLOAD = "download"
CONNECTIONS = 16
DOWNLOADS = 4
DOWNLOAD_BYTES = 8 * 1024 * 1024
PIECE_BYTES = 256 * 1024
PIECE_SECONDS = 0.1
LEAD_SECONDS = 2.0
PAUSE_SECONDS = 1.0
CALL_SECONDS = 30.0


@dataclass
class Figures:
    """What is printed at the end; times in seconds."""

    calls: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    ending: list[float] = field(default_factory=list)
    away: list[float] = field(default_factory=list)

    async def count(self, kind: str, call: Coroutine[Any, Any, None]) -> None:
        """Await a call, and count what comes of it."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await call
        except Exception as error:  # noqa: BLE001 - whatever it is, the call has failed
            self.failures[f"{kind}: {type(error).__name__}: {error}"[:200]] += 1
        self.calls[kind] += 1
        if kind != DOWNLOAD:
            self.latencies.append(time.monotonic() - began)


class Callers:
    """Everybody who calls, until cancelled."""

    def __init__(self, figures: Figures, nodes: Sequence[NodeCredentials], roots: Credentials, url: str) -> None:
        self._figures = figures
        self._nodes = nodes
        self._context = roots.client_context()
        self._url = url

    @asynccontextmanager
    async def calling(self, relay_urls: Sequence[str], per_second: float) -> AsyncIterator[None]:
        """Call inside the block; what is under way at its end is awaited."""
        connector = aiohttp.TCPConnector(ssl=self._context, limit=CONNECTIONS)
        relays = Relays(lambda url: NodeSender(url, ssl_context=self._context))
        stop = asyncio.Event()
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._at(per_second / 2, stop, "plain", lambda node: self._plain(session, node)))
            sdk = self._sdk(relays, relay_urls)
            tasks.create_task(self._at(per_second / 2, stop, "sdk", sdk))
            for _ in range(DOWNLOADS):
                tasks.create_task(self._download_again(session, stop))
            try:
                yield
            finally:
                stop.set()
        await relays.close()

    async def _at(
        self,
        per_second: float,
        stop: asyncio.Event,
        kind: str,
        call: Callable[[NodeCredentials], Coroutine[Any, Any, None]],
    ) -> None:
        began = time.monotonic()
        async with asyncio.TaskGroup() as calls:
            for number, node in enumerate(itertools.cycle(self._nodes)):
                if stop.is_set():
                    return
                calls.create_task(self._figures.count(kind, call(node)))
                await asyncio.sleep(began + (number + 1) / per_second - time.monotonic())

    async def _plain(self, session: aiohttp.ClientSession, node: NodeCredentials) -> None:
        """A PUT, which no client makes again by itself."""
        url = f"{self._url}{node.gateway}/upload"
        async with session.put(url, data=b"x" * 100, headers=authorization(node)) as answer:
            if answer.status != 204:
                raise RuntimeError(f"{answer.status} {(await answer.text())[:120]}")

    def _sdk(self, relays: Relays, urls: Sequence[str]) -> Callable[[NodeCredentials], Coroutine[Any, Any, None]]:
        addresses = [RelayAddress(url=url) for url in urls]
        routes = {node.name: Route(relays) for node in self._nodes}

        async def call(node: NodeCredentials) -> None:
            token = AccessToken(token=node.call_token, expire_time=0, relays=addresses)
            answer = await routes[node.name].call(
                token, lambda sender: sender.request("GET", node.host, "/small", token=node.call_token)
            )
            if answer.status != 200 or len(await answer.read()) != 200:
                raise RuntimeError(f"status {answer.status}")

        return call

    async def _download_again(self, session: aiohttp.ClientSession, stop: asyncio.Event) -> None:
        node = self._nodes[0]
        while not stop.is_set():
            await self._figures.count(DOWNLOAD, self._download(session, node))

    async def _download(self, session: aiohttp.ClientSession, node: NodeCredentials) -> None:
        """Read slowly, for some seconds."""
        url, got = f"{self._url}{node.gateway}/bulk/{DOWNLOAD_BYTES}", 0
        async with session.get(url, headers=authorization(node)) as answer:
            async for piece in answer.content.iter_chunked(PIECE_BYTES):
                got += len(piece)
                await asyncio.sleep(PIECE_SECONDS * len(piece) / PIECE_BYTES)
        if got != DOWNLOAD_BYTES:
            raise RuntimeError(f"{got} of {DOWNLOAD_BYTES} bytes")


async def soak(arguments: argparse.Namespace, directory: Path) -> bool:
    """Run it all; returns whether nothing failed."""
    credentials = Credentials(directory / "credentials")
    nodes = credentials.nodes(arguments.nodes)
    nodes_file = credentials.write_nodes(nodes, "nodes.json")
    figures = Figures()
    with ExitStack() as stack:
        relays = [
            RestartedRelay(directory / name, credentials, Build.best(), lead_seconds=LEAD_SECONDS)
            for name in ("relay-1", "relay-2")
        ]
        for relay in relays:
            stack.callback(relay.kill)
            relay.start()
            stack.enter_context(listening(relay, nodes_file, LOAD_CORE))
        port = stack.enter_context(running_haproxy(directory, [relay.upstream for relay in relays]))
        callers = Callers(figures, nodes[: arguments.called], credentials, f"https://localhost:{port}")
        async with callers.calling([relay.url for relay in relays], arguments.rate):
            await _restart(relays, arguments.restarts, figures)
        errors = [line for relay in relays for line in relay.errors()]
    _print(figures, errors)
    return not figures.failures and not errors


async def _restart(relays: Sequence[RestartedRelay], times: int, figures: Figures) -> None:
    for number in range(times):
        await asyncio.sleep(PAUSE_SECONDS)
        ending, away = await relays[number % len(relays)].restart()
        figures.ending.append(ending)
        figures.away.append(away)
        failed = figures.failures.total()
        print(f"restart {number + 1}: ended in {ending:.1f} s, ready after {away:.1f} s; failed {failed}", flush=True)
    await asyncio.sleep(PAUSE_SECONDS)


def _print(figures: Figures, errors: Sequence[str]) -> None:
    ordered = sorted(figures.latencies)
    print(", ".join(f"{count} {kind} calls" for kind, count in sorted(figures.calls.items())))
    print(f"p50 {ordered[len(ordered) // 2] * 1e3:.1f} ms, p99 {ordered[len(ordered) * 99 // 100] * 1e3:.1f} ms")
    print(f"failed {figures.failures.total()}")
    for failure, count in figures.failures.most_common(20):
        print(f"  {count} x {failure}")
    for line in errors[:20]:
        print(f"  logged: {line}")


def main() -> int:
    """Run the soak from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--nodes", type=int, default=1000, help="listeners linked to each relay")
    parser.add_argument("--called", type=int, default=20, help="of them, those that are called")
    parser.add_argument("--rate", type=float, default=500.0, help="calls a second")
    with tempfile.TemporaryDirectory() as directory:
        return 0 if asyncio.run(soak(parser.parse_args(), Path(directory))) else 1


if __name__ == "__main__":
    sys.exit(main())
