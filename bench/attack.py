"""Attackers as a process of their own: `python -m bench.attack RELAY_PORT CREDENTIALS_FILE NAME COUNT`.

Prints `up` once they are all connected. Slow peers stay until the relay closes them, or the process is killed. Floods
come one after the other, and at the end the longest time is printed that the relay left one of them, in seconds.

It is to be run when nothing else wants its core (`IDLE_PRIORITY`), from its first import on, so that whoever is
measured beside it waits for the relay and not for the attackers.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from bench.credentials import load_nodes
from bench.floods import FLOODS, tiny_chunks, unread_windows
from bench.slow_peers import SLOW_PEERS, crowd
from bench.target import Target
from certs.tls import client_context

ATTACKER = "127.0.0.2"
TINY_CHUNKS = "chunks of one byte"
UNREAD_WINDOWS = "windows that are not read"
UNREAD_LINK = "a link that is not read"
CHUNKS = 1_000_000


async def attack(target: Target, name: str, count: int) -> None:
    """Attack, and say when everybody is there."""
    if name in SLOW_PEERS:
        async with crowd(SLOW_PEERS[name](target), target, count):
            print("up", flush=True)
            await asyncio.Event().wait()
    print("up", flush=True)
    print(max([await _seconds(target, name) for _ in range(count)]), flush=True)


async def _seconds(target: Target, name: str) -> float:
    """Flood on one connection, and return for how long that went on."""
    began = time.monotonic()
    if name in FLOODS:
        await FLOODS[name](target)
    elif name == TINY_CHUNKS:
        await tiny_chunks(target, CHUNKS)
    else:
        await unread_windows(target, reading=name == UNREAD_WINDOWS)
    return time.monotonic() - began


def main() -> None:
    port, credentials, name, count = sys.argv[1:]
    roots, (node, *_) = load_nodes(Path(credentials))
    target = Target(int(port), client_context(ca_file=roots), node, ATTACKER)
    asyncio.run(attack(target, name, int(count)))


if __name__ == "__main__":
    main()
