"""A relay without enough of something: it says so, goes on with what it has, and recovers by itself within seconds."""

import asyncio
import resource
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.credentials import Credentials
from bench.legitimate import calling
from bench.machine import LOAD_CORE
from bench.relay import Relay, listening, running_relay
from bench.relay_state import descriptors, metrics, readiness
from bench.slow_peers import SLOW_PEERS, crowd
from bench.target import Target

FILES = 256
RECOVERY_SECONDS = 30.0
"""It is five on a machine that has nothing else to do, which `make soak-starved` measures."""
CROWD_SECONDS = 30.0
WAVES = 6
HALF_OPEN = SLOW_PEERS["half-open TLS"]


@contextmanager
def starved(directory: Path, **options: Any) -> Iterator[tuple[Relay, Target]]:
    credentials = Credentials(directory / "credentials")
    (node,) = credentials.nodes(1)
    with (
        running_relay(directory / "relay", credentials, **options) as relay,
        listening(relay, credentials.write_nodes([node], "nodes.json"), LOAD_CORE),
    ):
        yield relay, Target(relay.port, credentials.client_context(), node)
    assert "Traceback" not in relay.log


async def remarked(
    relay: Relay, name: str, is_true: Callable[[str | None], bool], seconds: float = RECOVERY_SECONDS
) -> None:
    """Wait until what the relay remarks is as wanted, for no longer than a recovery may take by default."""
    async with asyncio.timeout(seconds):
        while True:
            said = await readiness(relay.admin_url)
            assert said["ready"]
            if is_true(said.get("remarks", {}).get(name)):
                return
            await asyncio.sleep(0.1)


async def nobody_waits(relay: Relay) -> None:
    """Wait until the handshakes of those that have come are under way."""
    async with asyncio.timeout(CROWD_SECONDS):
        while (await metrics(relay.admin_url))["trunkline_relay_handshakes_waiting"]:  # noqa: ASYNC110 - it is another's
            await asyncio.sleep(0.05)


async def served(taken: list[float]) -> None:
    """Wait until who was there before is served again."""
    calls = len(taken)
    async with asyncio.timeout(CROWD_SECONDS):
        while len(taken) == calls:  # noqa: ASYNC110 - another process answers
            await asyncio.sleep(0.01)


async def one_call(target: Target) -> None:
    async with asyncio.timeout(RECOVERY_SECONDS), calling(target):
        pass


def test_with_256_descriptors_more_connections_than_those_are_closed(tmp_path: Path) -> None:
    async def run(relay: Relay, target: Target) -> None:
        async with calling(target) as taken:
            # Looked for while they come: on a busy machine the first are closed again before the last are there.
            looking = remarked(relay, "connections", lambda said: "as many as may be" in (said or ""), CROWD_SECONDS)
            looked = asyncio.create_task(looking)
            async with AsyncExitStack() as crowds:
                for _ in range(WAVES):  # of all at once the line of those that wait would turn most away
                    await crowds.enter_async_context(crowd(HALF_OPEN(target), target, FILES // 4))
                    await nobody_waits(relay)
                await looked
                numbers = await metrics(relay.admin_url)
                await served(taken)
            assert numbers['trunkline_relay_connections_refused_total{reason="connections"}'] > 0
            await remarked(relay, "connections", lambda said: said is None)
            await one_call(target)

    one_may_have_all = {"max_handshakes_per_address": 1024}  # as a balancer, and this machine here
    with starved(tmp_path, limits=one_may_have_all, within=["prlimit", f"--nofile={FILES}"]) as (relay, target):
        asyncio.run(run(relay, target))


def test_out_of_descriptors_others_wait_and_are_served_once_there_are_some(tmp_path: Path) -> None:
    async def run(relay: Relay, target: Target) -> None:
        limits = resource.prlimit(relay.pid, resource.RLIMIT_NOFILE)
        async with calling(target) as taken, AsyncExitStack() as later:
            resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (descriptors(relay.pid) + 8, limits[1]))
            await later.enter_async_context(crowd(HALF_OPEN(target), target, 40))
            numbers = await _paused(relay)
            assert numbers['trunkline_relay_accept_pauses_total{reason="resources"}'] > 0
            await served(taken)
            resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, limits)
            await one_call(target)
            await remarked(relay, "connections", lambda said: said is None)
            assert "relay.accept_failed" in relay.log

    with starved(tmp_path) as (relay, target):
        asyncio.run(run(relay, target))


async def _paused(relay: Relay) -> dict[str, float]:
    """The numbers once accepting has paused, with a few descriptors more, of which the admin endpoint needs one."""
    async with asyncio.timeout(CROWD_SECONDS):
        while "relay.accept_failed" not in relay.log:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.05)
    _, most = resource.prlimit(relay.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (descriptors(relay.pid) + 4, most))
    return await metrics(relay.admin_url)
