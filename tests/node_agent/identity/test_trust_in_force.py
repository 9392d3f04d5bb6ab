"""The trust document in force at an agent."""

from node_agent.identity.trust_in_force import LOG_BURST, LOG_INTERVAL_SECONDS, TrustInForce
from trunkline.runtime.clock import ManualClock


def test_a_relay_fills_no_log_with_documents_that_are_refused(tmp_path, log, logged):
    clock = ManualClock()
    trust = TrustInForce(tmp_path, clock, log)
    for _ in range(1_000):
        trust.offer("garbage")
    assert [entry["event"] for entry in logged.entries] == ["trust.refused"] * LOG_BURST
    clock.advance(LOG_INTERVAL_SECONDS)
    trust.offer("garbage")
    trust.offer("garbage")
    assert len(logged.entries) == LOG_BURST + 1
