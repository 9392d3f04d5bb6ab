"""Work for many nodes: bounded in all and for each node, never twice at once, until it is done, ending in order."""

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from control_plane.node_work import NodeWork, Piece, Rest
from tests.support.loop_clock import LoopClock
from tests.support.virtual_time import in_virtual_time

Run = Callable[[str, Piece], Awaitable[float | Rest]]


class NoJitter(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def make(
    run_piece: Run,
    *,
    most_at_once: int = 8,
    most_of_a_node: int = 2,
    counts: list[int] | None = None,
    rng: random.Random | None = None,
) -> NodeWork[str, Piece]:
    return NodeWork[str, Piece](
        run_piece,
        Piece,
        most_at_once=most_at_once,
        most_of_a_node=most_of_a_node,
        counted=(counts if counts is not None else []).append,
        clock=LoopClock(),
        rng=rng or NoJitter(),
        name="test",
    )


@asynccontextmanager
async def running(work: NodeWork[str, Piece]) -> AsyncIterator[None]:
    task = asyncio.create_task(work.run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def now() -> float:
    return asyncio.get_running_loop().time()


class Script:
    """Runs that take a second each, and come to what is written for their key; notes when each began."""

    def __init__(self, **come_to: list[float | Rest]) -> None:
        self.come_to = come_to
        self.begun: list[tuple[str, float]] = []
        self.attempts: list[int] = []

    async def run(self, key: str, piece: Piece) -> float | Rest:
        self.begun.append((key, now()))
        self.attempts.append(piece.attempt)
        await asyncio.sleep(1.0)
        return self.come_to[key].pop(0)


@in_virtual_time
async def test_a_piece_is_run_when_its_last_run_said_until_it_is_done() -> None:
    script, counts = Script(a=[10.0, 20.0, Rest.DONE]), list[int]()
    work = make(script.run, counts=counts)
    async with running(work):
        work.kick("a", "n")
        await asyncio.sleep(60.0)
    assert script.begun == [("a", 0.0), ("a", 11.0), ("a", 32.0)]
    assert script.attempts == [0, 1, 2]
    assert counts == [1, 0]
    assert "a" not in work


@in_virtual_time
async def test_a_pause_has_jitter() -> None:
    begun = []

    async def run(key: str, piece: Piece) -> float:
        begun.append(now())
        return 10.0

    work = make(run, rng=random.Random(1))
    async with running(work):
        work.kick("a", "n")
        await asyncio.sleep(1000.0)
    pauses = [later - sooner for sooner, later in itertools.pairwise(begun)]
    assert all(8.0 <= pause <= 12.0 for pause in pauses)
    assert max(pauses) - min(pauses) > 2.0


@in_virtual_time
async def test_one_that_is_kicked_while_it_runs_is_run_once_more_unless_it_is_done() -> None:
    script = Script(a=[50.0, 50.0], b=[Rest.DONE])
    work = make(script.run)
    async with running(work):
        work.kick("a", "n")
        work.kick("b", "n")
        await asyncio.sleep(0.5)
        for key in ("a", "a", "b"):
            work.kick(key, "n")
        await asyncio.sleep(10.0)
    assert script.begun == [("a", 0.0), ("b", 0.0), ("a", 1.0)]


@in_virtual_time
async def test_one_that_rests_waits_for_a_kick() -> None:
    script = Script(a=[Rest.UNTIL_KICKED, Rest.DONE])
    work = make(script.run)
    async with running(work):
        work.kick("a", "n")
        await asyncio.sleep(1000.0)
        assert len(work) == 1
        work.kick_known("a")
        work.kick_known("b")
        await asyncio.sleep(10.0)
    assert script.begun == [("a", 0.0), ("a", 1000.0)]


@in_virtual_time
async def test_a_kick_and_a_node_that_is_back_shorten_a_pause_and_begin_to_count_anew() -> None:
    script = Script(a=[100.0] * 5, b=[100.0] * 5)
    work = make(script.run)
    async with running(work):
        work.kick("a", "n")
        work.kick("b", "m")
        await asyncio.sleep(110.0)
        assert script.attempts == [0, 0, 1, 1]
        work.kick_node("n")
        work.kick_node("nobody")
        await asyncio.sleep(10.0)
    assert script.begun[4:] == [("a", 110.0)]
    assert script.attempts[4:] == [0]


@in_virtual_time
async def test_a_run_that_has_come_on_begins_to_count_anew() -> None:
    attempts = []

    async def run(key: str, piece: Piece) -> float:
        attempts.append(piece.attempt)
        if len(attempts) == 3:
            piece.attempt = 0
        return 1.0

    work = make(run)
    async with running(work):
        work.kick("a", "n")
        await asyncio.sleep(4.5)
    assert attempts == [0, 1, 2, 1, 2]


@in_virtual_time
async def test_a_node_that_answers_slowly_holds_up_no_other() -> None:
    slow: dict[str, list[float | Rest]] = {f"slow-{number}": [Rest.DONE] for number in range(6)}
    script = Script(**slow, other=[Rest.DONE])
    work = make(script.run, most_at_once=3, most_of_a_node=2)
    async with running(work):
        for number in range(6):
            work.kick(f"slow-{number}", "slow")
        work.kick("other", "n")
        await asyncio.sleep(10.0)
    begun = dict(script.begun)
    assert begun["other"] == 0.0
    assert Counter(begun[f"slow-{number}"] for number in range(6)) == {0.0: 2, 1.0: 2, 2.0: 2}


@dataclass
class Load:
    """Runs of random lengths that count who is under way."""

    rng: random.Random
    left: Counter[str]
    most: int = 0
    most_of_a_node: int = 0

    def __post_init__(self) -> None:
        self.under_way: Counter[str] = Counter()
        self.of_nodes: Counter[str] = Counter()

    async def run(self, key: str, piece: Piece) -> float | Rest:
        assert not self.under_way[key], "twice at once"
        self.under_way[key] += 1
        self.of_nodes[piece.node_id] += 1
        self.most = max(self.most, self.under_way.total())
        self.most_of_a_node = max(self.most_of_a_node, *self.of_nodes.values())
        await asyncio.sleep(self.rng.choice([0.0, 0.1, 1.0, 5.0]))
        self.under_way[key] -= 1
        self.of_nodes[piece.node_id] -= 1
        self.left[key] -= 1
        if self.left[key] <= 0:
            return Rest.DONE
        return self.rng.choice([0.0, 0.5, 3.0])


@pytest.mark.parametrize("seed", range(5))
@in_virtual_time
async def test_whatever_is_kicked_and_when_the_bounds_hold_and_all_is_done(seed: int) -> None:
    rng = random.Random(seed)
    nodes = {f"p-{number}": f"n-{number % 7}" for number in range(60)}
    load = Load(rng, Counter({key: rng.randint(1, 4) for key in nodes}))
    work = make(load.run, most_at_once=5, most_of_a_node=2)
    async with running(work):
        for key, node_id in nodes.items():
            work.kick(key, node_id)
        for _ in range(200):
            await asyncio.sleep(rng.choice([0.0, 0.05, 0.3]))
            work.kick_known(rng.choice(list(nodes)))
            work.kick_node(f"n-{rng.randint(0, 7)}")
        await asyncio.sleep(1000.0)
    assert not len(work)
    assert (load.most, load.most_of_a_node) == (5, 2)
    assert all(left <= 0 for left in load.left.values())


@in_virtual_time
async def test_to_settle_is_to_wait_for_a_run_that_begins_now() -> None:
    script = Script(a=[50.0, 50.0, 50.0])
    work = make(script.run)
    async with running(work):
        assert await work.settle("a", "n", 10.0)
        assert now() == 1.0
        work.kick("a", "n")
        await asyncio.sleep(0.5)
        assert await work.settle("a", "n", 10.0)
        assert now() == 3.0, "the one that was running had begun before"
    assert [time for _, time in script.begun] == [0.0, 1.0, 2.0]


@in_virtual_time
async def test_who_waits_is_told_of_runs_of_the_end_and_of_neither() -> None:
    script = Script(a=[5.0, Rest.UNTIL_KICKED, Rest.DONE])
    work = make(script.run)
    async with running(work):
        work.kick("a", "n")
        await asyncio.sleep(0)
        assert await work.wait_for_runs("a", 2, 100.0)
        assert now() == 7.0
        assert not await work.wait_for_runs("a", 1, 100.0)
        work.kick_known("a")
        assert await work.wait_for_runs("a", 9, 100.0), "it is done, and will not run so often"
        assert now() == 108.0
        assert await work.wait_for_runs("a", 1, 100.0), "there is nothing to wait for"


@in_virtual_time
async def test_a_cancel_ends_all_runs_and_waits_for_their_ends() -> None:
    ended = []

    async def run(key: str, piece: Piece) -> float:
        try:
            await asyncio.sleep(100.0)
        finally:
            await asyncio.sleep(1.0)
            ended.append(key)
        return 0.0

    work = make(run)
    async with running(work):
        work.kick("a", "n")
        work.kick("b", "m")
        await asyncio.sleep(5.0)
    assert sorted(ended) == ["a", "b"]
    assert now() == 6.0


@in_virtual_time
async def test_what_a_run_raises_ends_all_of_it() -> None:
    async def run(key: str, piece: Piece) -> float:
        if key == "bad":
            raise LookupError(key)
        await asyncio.sleep(1000.0)
        return 0.0

    work = make(run)
    work.kick("a", "n")
    work.kick("bad", "n")
    with pytest.raises(ExceptionGroup) as caught:
        await work.run()
    assert caught.group_contains(LookupError, match="bad")
    assert now() == 0.0
