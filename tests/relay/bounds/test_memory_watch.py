"""Shedding begins near the limit and ends a little below it."""

from prometheus_client import CollectorRegistry

from relay.bounds.memory_watch import TIDY_LOOKS, MemoryWatch
from relay.metrics import RelayMetrics
from tests.support.small_relay import SmallRelay, get, on_relay, reply, settle
from trunkline.runtime.logs import get_logger


class Memory:
    """A process whose memory the test sets."""

    def __init__(self, limit_bytes: int | None = 1000) -> None:
        self.registry = CollectorRegistry()
        self.held = 0
        self.free = 0
        self.tidied = 0
        self.shed: list[bool] = []
        self.watch = MemoryWatch(
            limit_bytes,
            resident_bytes=lambda: self.held,
            shed=self.shed.append,
            metrics=RelayMetrics(self.registry),
            log=get_logger("test"),
            give_back=self.give_back,
        )

    def give_back(self) -> None:
        self.tidied += 1
        self.held -= self.free
        self.free = 0

    def look(self, held: int) -> list[bool]:
        self.held = held
        self.watch.look()
        return self.shed


def test_with_hysteresis() -> None:
    memory = Memory()
    assert memory.look(849) == []
    assert memory.look(850) == [True]
    assert memory.watch.remark() is not None
    assert memory.registry.get_sample_value("trunkline_relay_memory_shedding") == 1
    assert memory.look(801) == [True]
    assert memory.look(799) == [True, False]
    assert memory.watch.remark() is None
    assert memory.registry.get_sample_value("trunkline_relay_memory_shedding") == 0


def test_memory_that_is_not_known_is_told() -> None:
    memory = Memory()
    assert memory.look(0) == []
    assert "mount /proc" in str(memory.watch.remark())
    assert memory.look(900) == [True]
    assert "503" in str(memory.watch.remark())


def test_what_is_free_is_given_back_first() -> None:
    memory = Memory()
    memory.free = 400
    assert memory.look(900) == []
    assert memory.look(900) == [True]


def test_a_peak_that_the_allocator_keeps_ends() -> None:
    memory = Memory()
    assert memory.look(900) == [True]
    memory.free = 500
    for _ in range(4):
        memory.look(memory.held)
    assert memory.shed == [True, False]


def test_garbage_is_collected_only_near_the_limit_and_not_at_every_look() -> None:
    memory = Memory()
    for held in (100, 800, 849, 799):
        memory.look(held)
    assert memory.tidied == 0
    for _ in range(2 * TIDY_LOOKS):
        memory.look(900)
    assert memory.tidied == 2
    for _ in range(TIDY_LOOKS):
        memory.look(820)
    assert memory.tidied == 3, "until there is enough"


def test_without_a_limit_nothing_is_shed() -> None:
    assert Memory(None).look(10**12) == []


@on_relay()
async def test_new_calls_are_refused_and_those_under_way_go_on(relay: SmallRelay) -> None:
    node, first, second = relay.attach_node(), relay.connect(), relay.connect()
    first.send(get())
    await settle()
    relay.front.shedding = True
    second.send(get())
    await settle()
    assert second.received.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 2\r\n" in second.received
    own = relay.connect()
    own.send(get(token=b"control-plane"))
    await settle()
    node.calls[1].answer(reply(b"for the control plane"))
    await settle()
    assert own.received.endswith(b"for the control plane")
    node.calls[0].answer(reply())
    await settle()
    assert first.received.startswith(b"HTTP/1.1 200 ")
    relay.front.shedding = False
    second.take()
    second.send(get())
    await settle()
    node.calls[2].answer(reply())
    await settle()
    assert second.received.startswith(b"HTTP/1.1 200 ")
