"""The commands of the agent API, over a real link in memory."""

import asyncio
import json

import pytest

from certs.bindings import Binding
from certs.trust import TrustVerdict
from node_agent.api import commands
from node_agent.commands.states import CommandState
from node_agent.init_scripts.record import InitState


def submission(*argv, **fields):
    return json.dumps({"argv": list(argv)} | fields).encode()


@pytest.fixture
def submit(agent):
    async def put(command_id, *argv, **fields):
        return await agent.call("PUT", f"/v1/commands/{command_id}", body=submission(*argv, **fields))

    return put


async def get(agent, path):
    answer = await agent.call("GET", path)
    return json.loads(answer.body)


async def test_submit_run_and_read(agent, submit, ledger, until):
    answer = await submit("c-1", "sh", "-c", "echo out; echo err >&2")
    assert answer.status == 201
    await until(lambda: ledger.get("c-1").spooled)
    document = await get(agent, "/v1/commands/c-1")
    assert (document["state"], document["exit_code"], document["submitted_by"]) == ("SUCCEEDED", 0, "operator:test")
    stdout = await agent.call("GET", "/v1/commands/c-1/output")
    assert (stdout.body, stdout.fields["trunkline-size"]) == (b"out\n", "4")
    assert stdout.fields["content-type"] == "application/octet-stream"
    assert (await agent.call("GET", "/v1/commands/c-1/output?stream=stderr&offset=1")).body == b"rr\n"


async def test_a_long_command_is_shown_short_enough_for_whoever_asks(agent, submit, ledger, until):
    argv = ["true", *["\U0001f600" * 30_000] * 4]
    assert (await submit("c-1", *argv)).status == 201
    await until(lambda: ledger.get("c-1").spooled)
    answer = await agent.call("GET", "/v1/commands/c-1")
    document = json.loads(answer.body)
    assert len(answer.body) < 256 * 1024
    assert (document["state"], document["argv_truncated"]) == ("SUCCEEDED", True)
    assert "".join(argv).startswith("".join(document["argv"]))
    assert (await submit("c-1", *argv)).status == 200, "the whole argv still counts"


async def test_submitting_again(submit):
    assert (await submit("c-1", "true")).status == 201
    assert (await submit("c-1", "true")).status == 200
    answer = await submit("c-1", "false")
    assert (answer.status, json.loads(answer.body)["error_code"]) == (409, "RESOURCE_CONFLICT")


@pytest.mark.parametrize("command_id", ["-x", "a%2Fb", "%2e%2e", "x" * 129])
async def test_ids_that_are_none(submit, command_id):
    assert (await submit(command_id, "true")).status in (400, 404)


async def test_bodies_that_are_none(agent):
    for body in (b"{}", b"x", b'{"argv":["true"],"shell":true}'):
        answer = await agent.call("PUT", "/v1/commands/c-1", body=body)
        assert (answer.status, json.loads(answer.body)["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    answer = await agent.call("PUT", "/v1/commands/c-1", body=bytes(9 * 1024 * 1024))
    assert answer.status == 413


async def test_unknown_commands_and_routes(agent):
    for method, path in (("GET", "/v1/commands/x"), ("POST", "/v1/commands/x/cancel"), ("GET", "/v1/nothing")):
        assert (await agent.call(method, path)).status == 404
    assert (await agent.call("DELETE", "/v1/health")).status == 405


async def test_a_token_that_is_bound_to_a_body_submits_it_once(agent, kit, ledger):
    body = submission("true")
    token = kit.call_token("command:submit", binding=Binding.of_body(body))
    other = await agent.call("PUT", "/v1/commands/c-0", token=token, body=submission("false"))
    assert other.status == 403
    assert (await agent.call("PUT", "/v1/commands/c-1", token=token, body=body)).status == 201
    assert (await agent.call("PUT", "/v1/commands/c-1", token=token, body=body)).status == 200
    replayed = await agent.call("PUT", "/v1/commands/c-2", token=token, body=body)
    assert (replayed.status, [command.command_id for command in ledger]) == (403, ["c-1"])


async def test_tokens_of_one_submit_run_it_under_no_other_id(agent, kit, ledger):
    body = submission("true")
    tokens = [kit.call_token("command:submit", binding=Binding.of_body(body, "c-1")) for _ in range(2)]
    for command_id in ("c-2", "C-1", "c-1.", "%63-2"):
        answer = await agent.call("PUT", f"/v1/commands/{command_id}", token=tokens[0], body=body)
        assert (answer.status, json.loads(answer.body)["error_code"]) == (403, "PERMISSION_DENIED")
    assert (await agent.call("PUT", "/v1/commands/c-1", token=tokens[0], body=submission("false"))).status == 403
    assert not list(ledger)
    assert (await agent.call("PUT", "/v1/commands/c-1", token=tokens[0], body=body)).status == 201
    assert (await agent.call("PUT", "/v1/commands/%63-1", token=tokens[1], body=body)).status == 200
    assert (await agent.call("PUT", "/v1/commands/c-2", token=tokens[1], body=body)).status == 403
    assert [command.command_id for command in ledger] == ["c-1"]


async def test_a_bound_token_is_good_for_no_other_route(agent, kit, submit):
    await submit("c-1", "sleep", "60")
    body = submission("sleep", "60")
    for binding in (Binding.of_body(body), Binding.of_body(body, "c-1"), Binding.of_body(b"{}", "c-1")):
        token = kit.call_token("command:submit", binding=binding)
        for method, path, content in (
            ("GET", "/commands", b""),
            ("GET", "/commands/c-1", b""),
            ("GET", "/commands/c-1/output", b""),
            ("GET", "/health", b""),
            ("GET", "/metrics", b""),
            ("POST", "/commands/c-1/cancel", body),
            ("POST", "/commands/c-1/cancel", b""),
        ):
            assert (await agent.call(method, f"/v1{path}", token=token, body=content)).status == 403, (method, path)
        refused = await agent.call("PUT", "/v1/commands/c-3", token=token, body=submission("true"))
        assert refused.status == 403


async def test_a_token_that_is_bound_to_a_cancel_cancels_that_command_and_submits_nothing(
    agent, kit, submit, ledger, until
):
    for command_id in ("c-1", "c-2"):
        await submit(command_id, "sleep", "60")
    await until(lambda: all(ledger.get(command_id).state is CommandState.RUNNING for command_id in ("c-1", "c-2")))
    token = kit.call_token("command:submit", binding=Binding.of_body(b"{}", "c-1"))
    assert (await agent.call("POST", "/v1/commands/c-2/cancel", token=token, body=b"{}")).status == 403
    assert (await agent.call("PUT", "/v1/commands/c-1", token=token, body=b"{}")).status == 400
    unnamed = kit.call_token("command:submit", binding=Binding.of_body(b"{}"))
    assert (await agent.call("POST", "/v1/commands/c-1/cancel", token=unnamed, body=b"{}")).status == 403
    assert (await agent.call("POST", "/v1/commands/c-1/cancel", token=token, body=b"{}")).status == 200
    assert ledger.get("c-1").state in (CommandState.CANCELLING, CommandState.CANCELLED)
    assert ledger.get("c-2").state in (CommandState.QUEUED, CommandState.RUNNING)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/health?bogus=1",
        "/v1/metrics?name=x",
        "/v1/commands?bogus=1",
        "/v1/commands?state=RUNNING&state=FAILED",
        "/v1/commands?bogus",
        "/v1/commands/c-1?stream=stdout",
        "/v1/commands/c-1/output?stream=stdout&ofset=5",
        "/v1/commands/c-1/output?offset=1&offset=2",
    ],
)
async def test_a_query_with_other_keys_is_refused(agent, submit, path):
    assert (await submit("c-1", "true")).status == 201
    answer = await agent.call("GET", path)
    assert (answer.status, json.loads(answer.body)["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert b"bogus" not in answer.body


async def test_a_submit_and_a_cancel_take_no_query(agent, submit, ledger):
    assert (await submit("c-1?user=root", "true")).status == 400
    assert not list(ledger)
    assert (await agent.call("POST", "/v1/commands/c-1/cancel?now=true")).status == 400


async def test_read_does_not_submit_and_submit_does_not_read(agent, kit):
    body = submission("true")
    assert (await agent.call("PUT", "/v1/commands/c", token=kit.call_token("command:read"), body=body)).status == 403
    assert (await agent.call("GET", "/v1/commands", token=kit.call_token("command:submit"))).status == 403


async def test_pages_of_the_list(agent, submit):
    for number in range(5):
        await submit(f"c-{number}", "true")
    seen, page_token = [], ""
    while True:
        page = await get(agent, f"/v1/commands?page_size=2{page_token}")
        seen += [command["command_id"] for command in page["commands"]]
        if "next_page_token" not in page:
            break
        page_token = f"&page_token={page['next_page_token']}"
    assert sorted(seen) == [f"c-{number}" for number in range(5)]
    assert seen[0] == "c-4"
    for query in ("page_size=0", "page_size=x", "page_token=zz", "state=DONE", "page_size=1001"):
        assert (await agent.call("GET", f"/v1/commands?{query}")).status == 400


async def test_a_page_of_long_commands_is_short(agent, submit):
    for number in range(6):
        await submit(f"c-{number}", "true", *["x" * 10_000] * 2)
    with_long = await get(agent, "/v1/commands?page_size=6")
    assert len(with_long["commands"]) == 6
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "MAX_PAGE_CHARACTERS", 40_000)
        page = await get(agent, "/v1/commands?page_size=6")
        assert [command["command_id"] for command in page["commands"]] == ["c-5", "c-4"]
        page = await get(agent, f"/v1/commands?page_size=6&page_token={page['next_page_token']}")
        assert [command["command_id"] for command in page["commands"]] == ["c-3", "c-2"]


async def test_cancel(agent, submit, ledger, until):
    await submit("c-1", "sleep", "60")
    assert (await agent.call("POST", "/v1/commands/c-1/cancel")).status == 200
    await until(lambda: ledger.get("c-1").spooled)
    assert ledger.get("c-1").state is CommandState.CANCELLED


async def test_offsets_beyond_the_end(agent, submit, ledger, until):
    await submit("c-1", "echo", "hello")
    await until(lambda: ledger.get("c-1").spooled)
    answer = await agent.call("GET", "/v1/commands/c-1/output?offset=7")
    assert (answer.status, answer.fields["trunkline-size"]) == (416, "6")
    assert (await agent.call("GET", "/v1/commands/c-1/output?offset=6&follow=true")).body == b""
    for query in ("offset=-1", "offset=x", "stream=stdin", "follow=yes", "offset=1e3"):
        assert (await agent.call("GET", f"/v1/commands/c-1/output?{query}")).status == 400


async def test_follow_brings_output_as_it_comes_and_the_end(agent, kit, submit, tmp_path):
    hold = tmp_path / "hold"
    await asyncio.to_thread(__import__("os").mkfifo, hold)
    await submit("c-1", "sh", "-c", f"echo first; cat {hold}; echo last")
    reader, writer = agent.open()
    writer.write(
        f"GET /v1/commands/c-1/output?follow=true HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Proxy-Authorization: Bearer {kit.call_token()}\r\n\r\n".encode()
    )
    assert await reader.readuntil(b"first\n\r\n")
    await asyncio.to_thread(hold.write_bytes, b"middle\n")
    rest = await reader.read()
    assert b"middle\n" in rest
    assert rest.endswith(b"last\n\r\n0\r\n\r\n") or b"last" in rest
    writer.close()
    await writer.wait_closed()


async def test_a_handler_is_cancelled_when_its_caller_goes(agent, kit, submit, ledger, until):
    await submit("c-1", "sleep", "60")
    await until(lambda: ledger.get("c-1").state is CommandState.RUNNING)
    reader, writer = agent.open()
    writer.write(
        f"GET /v1/commands/c-1/output?follow=true HTTP/1.1\r\nHost: x\r\n"
        f"Proxy-Authorization: Bearer {kit.call_token()}\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    await until(lambda: len(agent.watch) == 1)
    writer.transport.abort()
    await until(lambda: len(agent.watch) == 0)
    assert ledger.get("c-1").state is CommandState.RUNNING


async def test_a_follower_whose_token_is_revoked_is_cut(agent, kit, submit):
    await submit("c-1", "sleep", "60")
    reader, writer = agent.open()
    writer.write(
        f"GET /v1/commands/c-1/output?follow=true HTTP/1.1\r\nHost: x\r\n"
        f"Proxy-Authorization: Bearer {kit.call_token()}\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    assert [cut.is_stream for cut in agent.watch.cut(lambda claims: TrustVerdict(True, "node", "nd-one"))] == [False]
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_much_output_over_a_link(agent, submit, ledger, until):
    await submit("c-1", "sh", "-c", "seq 1 1000000")
    await until(lambda: ledger.get("c-1").spooled)
    answer = await agent.call("GET", "/v1/commands/c-1/output")
    assert answer.body == b"".join(b"%d\n" % number for number in range(1, 1000001))


async def test_a_wait_ends_with_the_next_revision_and_with_the_command(agent, submit, ledger, until):
    await submit("c-1", "sleep", "60")
    await until(lambda: ledger.get("c-1").state is CommandState.RUNNING)
    document = await get(agent, "/v1/commands/c-1")
    waiting = asyncio.create_task(get(agent, f"/v1/commands/c-1?wait_seconds=30&seen={document['revision']}"))
    await until(lambda: bool(ledger.get("c-1")._changed))
    await ledger.cancel("c-1", "someone")
    changed = await waiting
    assert changed["state"] in ("CANCELLING", "CANCELLED")
    assert changed["revision"] > document["revision"]
    await until(lambda: ledger.get("c-1").state.terminal)
    final = await get(agent, "/v1/commands/c-1?wait_seconds=30&seen=0")
    again = await get(agent, f"/v1/commands/c-1?wait_seconds=30&seen={final['revision']}")
    assert again == final, "nothing follows an end: there is nothing to wait for"


@pytest.mark.parametrize("query", ["wait_seconds=1", "seen=1", "wait_seconds=31&seen=1", "wait_seconds=x&seen=1"])
async def test_waits_that_are_none(agent, submit, query):
    await submit("c-1", "true")
    assert (await agent.call("GET", f"/v1/commands/c-1?{query}")).status == 400


async def test_the_tail_of_an_output(agent, submit, ledger, until):
    await submit("c-1", "printf", "0123456789")
    await until(lambda: ledger.get("c-1").spooled)
    for tail, expected, offset in ((3, b"789", "7"), (100, b"0123456789", "0"), (0, b"", "10")):
        answer = await agent.call("GET", f"/v1/commands/c-1/output?tail={tail}")
        assert (answer.body, answer.fields["trunkline-offset"], answer.fields["trunkline-size"]) == (
            expected,
            offset,
            "10",
        )
    assert (await agent.call("GET", "/v1/commands/c-1/output?tail=1&offset=1")).status == 400


async def test_a_node_that_is_being_initialised_takes_no_new_command(agent, submit):
    assert (await submit("c-1", "true")).status == 201
    agent.record.state = InitState.INITIALISING
    answer = await submit("c-2", "true")
    assert (answer.status, json.loads(answer.body)["error_code"]) == (503, "NODE_INITIALISING")
    assert (await submit("c-1", "true")).status == 200, "what was taken before is answered as ever"
    agent.record.state, agent.record.reason = InitState.INIT_FAILED, "the init script 'a' failed"
    answer = await submit("c-2", "true")
    assert (answer.status, json.loads(answer.body)["error_code"]) == (409, "NODE_NOT_READY")
    assert "the init script 'a' failed" in json.loads(answer.body)["message"]
    assert (await get(agent, "/v1/health"))["init"]["state"] == "INIT_FAILED"
    agent.record.state = InitState.READY
    assert (await submit("c-2", "true")).status == 201


async def test_nobody_else_can_take_the_id_of_an_init_script(submit):
    assert (await submit("init-2-is-" + "a" * 20 + ".nd-" + "b" * 20, "true")).status == 400
    assert (await submit("init-db", "true")).status == 201


async def test_a_notice_has_the_agent_ask(agent):
    refused = await agent.call("POST", "/v1/init/notice", token=agent.kit.call_token("command:submit"))
    assert (refused.status, agent.init_asked.is_set()) == (403, False)
    answer = await agent.call("POST", "/v1/init/notice", token=agent.kit.call_token("init:notify"))
    assert (answer.status, agent.init_asked.is_set()) == (204, True)


async def test_the_times_of_an_output(agent, submit, ledger, until, tmp_path):
    go = tmp_path / "go"
    await submit("c-1", "sh", "-c", f"echo one; while [ ! -e {go} ]; do sleep 0.02; done; echo two")
    await until(lambda: ledger.get("c-1").record.stdout_bytes == 4)
    await asyncio.sleep(0.3)  # longer than what has one time
    go.touch()
    await until(lambda: ledger.get("c-1").spooled)
    record, path = ledger.get("c-1").record, "/v1/commands/c-1/output/times"
    first, second = (await get(agent, path))["times"]
    assert (first["offset"], second["offset"]) == (0, 4)
    assert record.start_time <= first["time"] < first["time"] + 200 <= second["time"] <= record.end_time + 1000
    assert await get(agent, f"{path}?limit=1") == {"times": [first], "next_offset": 4}
    assert (await get(agent, f"{path}?offset=4&limit=1")) == {"times": [second]}
    assert (await get(agent, f"{path}?stream=stderr")) == {"times": []}
    for query in ("limit=0", "limit=4097", "offset=x", "stream=all", "colour=red"):
        assert (await agent.call("GET", f"{path}?{query}")).status == 400
    assert (await agent.call("GET", "/v1/commands/none/output/times")).status == 404
