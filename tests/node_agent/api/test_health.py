import json


async def test_health_says_what_the_contract_names(agent):
    document = json.loads((await agent.call("GET", "/v1/health")).body)
    assert set(document) == {
        "status",
        "node_id",
        "host",
        "agent_version",
        "uptime_seconds",
        "boot_time",
        "load",
        "memory",
        "disk",
        "pressure",
        "clock_offset_seconds",
        "clock_skew",
        "checks",
        "trust_sequence",
        "commands",
        "init",
    }
    assert document["memory"]["total_bytes"] >= document["memory"]["available_bytes"] > 0
    assert document["disk"]["total_bytes"] >= document["disk"]["free_bytes"] > 0
    assert len(document["load"]) == 3
    assert document["trust_sequence"] == 7
    assert document["commands"] == {"running": 0, "queued": 0}
    assert document["init"] == {"state": "READY", "run": 0}


async def test_metrics_are_prometheus_text(agent):
    answer = await agent.call("GET", "/v1/metrics")
    assert answer.fields["content-type"].startswith("text/plain")
    assert b"trunkline_node_agent_exchanges_total" in answer.body
