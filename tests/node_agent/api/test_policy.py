import json

POLICY = """
[commands]
run_as = "root"
allow = "named"
schedule = [{ days = ["mon"] }]
[commands.named.hello]
argv = ["echo", "hello {name}"]
[commands.named.hello.parameters.name]
type = "string"
pattern = "[a-z]+"
[ports.9100]
shared = true
[[checks]]
name = "disk"
argv = ["/bin/check", "--password=hunter2"]
"""


async def test_the_policy_is_shown_to_whoever_may_read_commands(agent, policy_file, policy, kit):
    policy_file.write_text(POLICY)
    assert policy.reload()
    answer = await agent.call("GET", "/v1/policy", token=kit.call_token("command:read"))
    document = json.loads(answer.body)
    assert answer.status == 200
    assert document["commands"]["run_as"] == "root"
    assert document["commands"]["named"]["hello"]["parameters"]["name"]["pattern"] == "[a-z]+"
    assert document["commands"]["schedule"][0]["time_zone"] == "UTC"
    assert document["ports"] == {"9100": {"address": "127.0.0.1", "shared": True}}
    assert document["init"] == {"enabled": False, "run_as": "root", "timeout_seconds": 3600.0}
    assert document["checks"] == ["disk"]
    assert b"hunter2" not in answer.body


async def test_it_needs_the_scope_to_read_commands(agent, kit):
    for scope in ("command:submit", "health:read", "port:9100"):
        assert (await agent.call("GET", "/v1/policy", token=kit.call_token(scope))).status == 403
    assert (await agent.call("GET", "/v1/policy?x=1")).status == 400


async def test_a_refusal_says_which_rule_refused(agent, policy_file, policy):
    policy_file.write_text(POLICY.replace('["mon"]', '["mon","tue","wed","thu","fri","sat","sun"]'))
    assert policy.reload()
    cases = {
        "commands.allow": {"argv": ["true"]},
        "commands.named": {"named": "other"},
        "commands.named.hello.parameters.name": {"named": "hello", "parameters": {"name": "$(id)"}},
    }
    for rule, body in cases.items():
        answer = await agent.call("PUT", "/v1/commands/c-1", body=json.dumps(body).encode())
        document = json.loads(answer.body)
        assert (answer.status, document["error_code"]) == (403, "POLICY_DENIED")
        assert document["details"] == {"policy_rule": rule}
        assert rule in document["message"]
        assert "$(id)" not in document["message"]


async def test_admissions_are_counted_by_what_decided(agent, policy_file, policy, ledger, until):
    policy_file.write_text("[commands]\nrun_as = 'root'\n" + "[commands.named.hello]\nargv = ['true']\n")
    assert policy.reload()
    for body in ({"named": "hello"}, {"named": "hello"}, {"argv": ["true"]}, {"named": "other"}, {"argv": []}):
        command_id = "c-1" if body != {"named": "other"} else "c-2"
        await agent.call("PUT", f"/v1/commands/{command_id}", body=json.dumps(body).encode())
    counted = agent.metrics.registry.get_sample_value
    name = "trunkline_node_agent_command_admissions_total"
    decisions = ("taken", "known", "other_body", "commands.named", "commands.allow")
    assert [counted(name, {"decision": decision}) for decision in decisions] == [1, 1, 1, 1, 0]
    await until(lambda: ledger.get("c-1").spooled)


async def test_a_named_command_runs_and_shows_what_it_was_asked_as(agent, policy_file, policy, ledger, until):
    policy_file.write_text(POLICY.replace('["mon"]', '["mon","tue","wed","thu","fri","sat","sun"]'))
    assert policy.reload()
    body = json.dumps({"named": "hello", "parameters": {"name": "world"}}).encode()
    assert (await agent.call("PUT", "/v1/commands/c-1", body=body)).status == 201
    assert (await agent.call("PUT", "/v1/commands/c-1", body=body)).status == 200
    await until(lambda: ledger.get("c-1").spooled)
    document = json.loads((await agent.call("GET", "/v1/commands/c-1")).body)
    assert (document["named"], document["parameters"]) == ("hello", {"name": "world"})
    assert document["argv"] == ["echo", "hello world"]
    assert (await agent.call("GET", "/v1/commands/c-1/output")).body == b"hello world\n"
