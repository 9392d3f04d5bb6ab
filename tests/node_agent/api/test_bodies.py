"""Bodies that an agent reads whole: there is room for a few long ones, whoever sends them and however slowly."""

import asyncio
import gzip

import pytest

from node_agent.api.bodies import MOST_LONG_BODIES, SHORT_BODY_BYTES
from tests.support.agent_exchanges import HOST, Agent

LONG = b"x" * (SHORT_BODY_BYTES + 1)
"""No submission, which shows once it is read."""


def submit(agent: Agent, size: int) -> bytes:
    token = agent.kit.call_token("command:submit")
    fields = f"Host: {HOST}\r\nProxy-Authorization: Bearer {token}\r\nContent-Length: {size}\r\nConnection: close"
    return f"PUT /v1/commands/c-1 HTTP/1.1\r\n{fields}\r\n\r\n".encode()


async def test_thousands_of_long_bodies_that_do_not_end_are_not_collected(agent: Agent):
    begun = [agent.open() for _ in range(MOST_LONG_BODIES)]
    for _, writer in begun:
        writer.write(submit(agent, len(LONG) + 1) + LONG)
    waiting = asyncio.create_task(agent.exchange(submit(agent, len(LONG)) + LONG))
    for _ in range(3):
        assert (await agent.exchange(submit(agent, 1000) + b"x" * 1000)).status == 400
    assert not waiting.done()
    begun[0][1].write(b"x")
    assert (await waiting).status == 400
    for _, writer in begun:
        writer.transport.abort()
    assert (await agent.exchange(submit(agent, len(LONG)) + LONG)).status == 400


@pytest.mark.parametrize("cut_off_bytes", [0, 5])
async def test_a_compressed_body_is_refused_and_never_unpacked(agent: Agent, cut_off_bytes: int):
    body = gzip.compress(b'{"argv": ["true"]}')[: -cut_off_bytes or None]  # without its end it was taken for whole
    token = agent.kit.call_token("command:submit")
    fields = ("Content-Encoding: gzip",)
    answer = await agent.call("PUT", "/v1/commands/c-1", token=token, body=body, fields=fields)
    assert answer.status == 400
    assert b"send no Content-Encoding" in answer.body
