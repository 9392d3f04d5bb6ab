import pytest

from relay.port.fresh_memory import AGENTS_ARRIVE_SECONDS, FreshMemory


class Memory:
    """Counts how often it was given back."""

    def __init__(self) -> None:
        self.given_back = 0
        self.fresh = FreshMemory(self.give_back)

    def give_back(self) -> None:
        self.given_back += 1


@pytest.fixture
def memory() -> Memory:
    return Memory()


def test_senders_alone_cost_nothing(memory: Memory) -> None:
    for now in range(10):
        memory.fresh.handshake_begins(now)
    assert memory.given_back == 0


def test_whoever_begins_after_an_agent_gets_fresh_memory(memory: Memory) -> None:
    memory.fresh.agent_came(5.0)
    memory.fresh.handshake_begins(5.1)
    memory.fresh.handshake_begins(5.2)
    assert memory.given_back == 2


def test_handshakes_that_begin_together_get_it_together(memory: Memory) -> None:
    memory.fresh.agent_came(5.0)
    for _ in range(16):
        memory.fresh.handshake_begins(5.1)
    assert memory.given_back == 1


def test_after_a_while_no_agent_is_reckoned_with(memory: Memory) -> None:
    memory.fresh.agent_came(5.0)
    memory.fresh.handshake_begins(5.0 + AGENTS_ARRIVE_SECONDS)
    assert memory.given_back == 0
    memory.fresh.agent_came(9.0)
    memory.fresh.handshake_begins(9.5)
    assert memory.given_back == 1
