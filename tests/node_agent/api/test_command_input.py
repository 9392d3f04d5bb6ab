"""Standard input that follows its command, over a real link in memory."""

import hashlib
import json

import pytest

from certs.bindings import Binding


def submission(*argv, **fields):
    return json.dumps({"argv": list(argv)} | fields).encode()


@pytest.fixture
def submit(agent):
    async def put(command_id, *argv, **fields):
        return await agent.call("PUT", f"/v1/commands/{command_id}", body=submission(*argv, **fields))

    return put


async def get(agent, path):
    return json.loads((await agent.call("GET", path)).body)


async def put(agent, path, body, **fields):
    answer = await agent.call("PUT", path, body=body, **fields)
    return answer.status, json.loads(answer.body)


async def test_an_input_that_follows_is_read_as_it_comes_and_resumed_by_offset(agent, submit, ledger, until):
    assert (await submit("c-1", "cat", stdin_stream=True)).status == 201
    assert (await put(agent, "/v1/commands/c-1/stdin", b"one"))[1]["received_bytes"] == 3
    await until(lambda: ledger.get("c-1").record.stdout_bytes == 3)
    assert (await put(agent, "/v1/commands/c-1/stdin?offset=7", b"gap"))[0] == 416
    assert (await put(agent, "/v1/commands/c-1/stdin?offset=1", b"ne two"))[1]["received_bytes"] == 7
    status, said = await put(agent, "/v1/commands/c-1/stdin?offset=7&end=true", b" three")
    assert (status, said) == (200, {"command_id": "c-1", "received_bytes": 13, "complete": True, "closed": False})
    await until(lambda: ledger.get("c-1").spooled)
    assert (await agent.call("GET", "/v1/commands/c-1/output")).body == b"one two three"
    assert (await get(agent, "/v1/commands/c-1"))["stdin_bytes"] == 13
    status, said = await put(agent, "/v1/commands/c-1/stdin?offset=13", b"late")
    assert (status, said["closed"], said["received_bytes"]) == (200, True, 13), "it has ended, and reads no more"


async def test_much_input_reaches_a_command_that_reads_slowly(agent, submit, ledger, until):
    content = bytes(range(256)) * 20_000
    await submit("c-1", "sh", "-c", "sleep 0.3; sha256sum", stdin_stream=True)
    assert (await put(agent, "/v1/commands/c-1/stdin?end=true", content))[0] == 200
    await until(lambda: ledger.get("c-1").spooled)
    digest = (await agent.call("GET", "/v1/commands/c-1/output")).body.split()[0]
    assert digest.decode() == hashlib.sha256(content).hexdigest()


async def test_input_for_a_command_that_takes_none(agent, submit):
    await submit("c-1", "sleep", "60")
    assert (await put(agent, "/v1/commands/c-1/stdin", b"x"))[0] == 409
    assert (await put(agent, "/v1/commands/none/stdin", b"x"))[0] == 404
    assert (await submit("c-2", "cat", stdin_stream=True, stdin="eA==")).status == 400


async def test_a_token_may_be_good_for_one_part_at_one_place(agent, kit, submit, ledger, until):
    await submit("c-1", "cat", stdin_stream=True)
    path = "/v1/commands/c-1/stdin"

    def bound(content, offset, complete=False, command_id="c-1"):
        return {
            "token": kit.call_token(
                "command:submit", binding=Binding.of_stdin(content, command_id, offset, complete=complete)
            )
        }

    for asked, content, token in (
        (path, b"two", bound(b"one", 0)),
        (f"{path}?offset=1", b"one", bound(b"one", 0)),
        (f"{path}?end=true", b"one", bound(b"one", 0)),
        (path, b"one", bound(b"one", 0, command_id="c-2")),
        (path, b"one", {"token": kit.call_token("command:submit", binding=Binding.of_body(b"one", "c-1"))}),
    ):
        assert (await put(agent, asked, content, **token))[0] == 403
    submitted = await agent.call("PUT", "/v1/commands/c-1", body=b"one", **bound(b"one", 0))
    assert submitted.status == 403, "it is good for nothing else"
    assert (await put(agent, path, b"one", **bound(b"one", 0)))[1]["received_bytes"] == 3
    assert (await put(agent, path, b"one", **bound(b"one", 0)))[1]["received_bytes"] == 3, "and does no harm again"
    assert (await put(agent, f"{path}?offset=3&end=true", b"", **bound(b"", 3, complete=True)))[1]["complete"]
    await until(lambda: ledger.get("c-1").spooled)
    assert (await agent.call("GET", "/v1/commands/c-1/output")).body == b"one"


async def test_a_part_that_a_token_is_bound_to_is_bounded(agent, kit, submit):
    await submit("c-1", "cat", stdin_stream=True)
    content = bytes(5 * 1024 * 1024)
    token = kit.call_token("command:submit", binding=Binding.of_stdin(content, "c-1", 0, complete=False))
    assert (await put(agent, "/v1/commands/c-1/stdin", content, token=token))[0] == 413


async def test_a_command_that_has_closed_its_input_is_told_of(agent, submit, until):
    await submit("c-1", "sh", "-c", "exec <&-; sleep 60", stdin_stream=True)
    answers = []

    async def closed():
        answers.append(await put(agent, f"/v1/commands/c-1/stdin?offset={len(answers)}", b"x"))
        return answers[-1][1]["closed"]

    while not await closed():
        assert answers[-1][0] == 200
