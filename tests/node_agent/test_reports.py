from prometheus_client import CollectorRegistry

from certs.trust import TrustVerdict
from node_agent.exchanges.watch import Cut
from node_agent.metrics import AgentMetrics
from node_agent.reports import MOST_CAUSES, Reports
from trunkline.runtime.clock import ManualClock

TOKEN = TrustVerdict(False, "token", "jti-1")
NODE = TrustVerdict(True, "node", "nd-one")
RELAY = TrustVerdict(False, "certificate", "1a")
NOW_MS = 1_800_000_000_000


def reports() -> Reports:
    return Reports(AgentMetrics(CollectorRegistry()), ManualClock())


def test_adoption_and_cuts_become_one_item():
    waiting = reports()
    waiting.adopted(7)
    assert waiting.waiting.is_set()
    assert not waiting.urgent.is_set()
    cut = [Cut(TOKEN, True), Cut(TOKEN, False), Cut(TOKEN, True), Cut(NODE, False)]
    waiting.adopted(8, cut, [RELAY, RELAY])
    assert waiting.urgent.is_set()
    batch = waiting.next_batch()
    assert batch is not None
    assert batch.items == [
        {
            "type": "trust",
            "time": NOW_MS,
            "sequence": 8,
            "cuts": [
                {"cause": "revocation", "kind": "token", "id": "jti-1", "streams": 2, "exchanges": 1},
                {"cause": "lock", "kind": "node", "id": "nd-one", "exchanges": 1},
                {"cause": "revocation", "kind": "certificate", "id": "1a", "links": 2},
            ],
        }
    ]
    assert not waiting.waiting.is_set()


def test_refusals_are_counts_by_outcome():
    waiting = reports()
    for outcome in ["bad_token"] * 1000 + ["locked"]:
        waiting.refused(outcome)
    assert not waiting.waiting.is_set()
    batch = waiting.next_batch()
    assert batch is not None
    assert {item["outcome"]: item["count"] for item in batch.items} == {"bad_token": 1000, "locked": 1}


def test_refused_commands_are_counts_by_rule_with_a_few_hashes():
    waiting = reports()
    for number in range(100):
        waiting.command_refused("commands.allow", f"{number % 50:064x}")
    waiting.command_refused("commands.named", "a" * 64)
    batch = waiting.next_batch()
    assert batch is not None
    first, second = batch.items
    assert (first["type"], first["outcome"], first["count"]) == ("command_refusal", "commands.allow", 100)
    assert first["body_sha256"] == [f"{number:064x}" for number in range(8)]
    assert (second["outcome"], second["count"], second["body_sha256"]) == ("commands.named", 1, ["a" * 64])
    waiting.taken(batch)
    assert waiting.next_batch() is None


def test_a_batch_is_the_same_until_it_is_taken_and_numbers_grow():
    waiting = reports()
    assert waiting.next_batch() is None
    waiting.adopted(1)
    first = waiting.next_batch()
    waiting.adopted(2)
    assert waiting.next_batch() is first
    assert first is not None
    waiting.taken(first)
    second = waiting.next_batch()
    assert second is not None
    assert second.sequence == first.sequence + 1 > NOW_MS
    assert second.items[0]["sequence"] == 2


def test_what_waits_is_bounded_and_what_is_dropped_is_counted():
    waiting = reports()
    waiting.adopted(1, [Cut(TrustVerdict(False, "token", f"jti-{number}"), True) for number in range(MOST_CAUSES + 5)])
    batch = waiting.next_batch()
    assert batch is not None
    assert len(batch.items[0]["cuts"]) == MOST_CAUSES
    assert batch.dropped == 5
    waiting.abandon(batch)
    again = waiting.next_batch()
    assert again is not None
    assert (again.items, again.dropped) == ([], 6)
