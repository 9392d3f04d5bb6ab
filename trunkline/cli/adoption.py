"""Waiting until relays and nodes have taken a revocation or lock, and saying what they cut."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import click

from trunkline.cli.exits import CommandFailed, printable
from trunkline.client.records.endings import Adopted, Adoption, Awaited

POLL_SECONDS = 0.1
SLOWEST_POLL_SECONDS = 1.0
MOST_NAMED = 10

WAIT = click.option("--wait/--no-wait", default=True, help="Wait until relays and nodes have reported it.")
TIMEOUT = click.option(
    "--timeout", "timeout_seconds", type=click.FloatRange(min=0, max=3_600), default=15.0, show_default=True,
    metavar="SECONDS", help="How long to wait at most.",
)  # fmt: skip


async def wait_for_adoption(ask: Callable[[], Awaitable[Adoption | None]], timeout_seconds: float) -> Adoption:
    """Ask how far it has come until it is everywhere, or the time is over; returns the last answer."""
    loop = asyncio.get_running_loop()
    give_up_at, pause_seconds = loop.time() + timeout_seconds, POLL_SECONDS
    while True:
        adoption = await ask() or Adoption()
        left_seconds = give_up_at - loop.time()
        if adoption.complete or left_seconds <= 0:
            return adoption
        await asyncio.sleep(min(pause_seconds, left_seconds))
        pause_seconds = min(pause_seconds * 1.5, SLOWEST_POLL_SECONDS)


def print_adoption(adoption: Adoption) -> None:
    """Say what each relay and node cut, and who has not reported; the latter on standard error."""
    for relay in adoption.relays:
        seconds = (relay.after_milliseconds or 0) / 1000
        name = printable(relay.name or relay.relay_id or "")
        click.echo(f"relay {name}: cut {_counts(relay)}, reported after {seconds:.2f} s")
    for node in adoption.nodes:
        click.echo(printable(f"node {node.node or node.node_id}: cut {_counts(node, links=False)}"))
    slowest = max((relay.after_milliseconds or 0 for relay in adoption.relays), default=0) / 1000
    sums = Adopted(
        links=sum(relay.links for relay in adoption.relays),
        streams=sum(relay.streams for relay in adoption.relays),
        exchanges=sum(relay.exchanges for relay in adoption.relays),
    )
    click.echo(f"in force at {_many(len(adoption.relays), 'relay')} after {slowest:.2f} s, which cut {_counts(sums)}")


def fail_if_incomplete(adoption: Adoption) -> None:
    """Say who has not reported.

    Raises:
        CommandFailed: somebody has not.
    """
    missing = [f"relay {_relay(relay)}" for relay in adoption.waiting_relays[:MOST_NAMED]]
    missing += [f"node {node.node or node.node_id}" for node in adoption.waiting_nodes[:MOST_NAMED]]
    count = adoption.waiting_relay_count + adoption.waiting_node_count
    if not adoption.complete:
        more = f" and {count - len(missing)} more" if count > len(missing) else ""
        message = f"it is durable, but not reported yet by {printable(', '.join(missing))}{more}"
        raise CommandFailed(message, os.EX_TEMPFAIL)


def _relay(relay: Awaited) -> str:
    name = relay.name or relay.relay_id or ""
    return name if relay.following else f"{name} (not connected to the control plane)"


def _counts(adopted: Adopted, *, links: bool = True) -> str:
    counts = [_many(adopted.links, "link")] if links else []
    return ", ".join([*counts, _many(adopted.streams, "stream"), _many(adopted.exchanges, "exchange")])


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
