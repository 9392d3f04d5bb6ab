import asyncio

import pytest

from tests.support.links import LinkPair, open_recorder
from tests.support.virtual_time import in_virtual_time
from trunkline.channel.errors import LocalProtocolError, StreamReset


@in_virtual_time
async def test_half_close():
    pair = LinkPair()
    here = open_recorder(pair.client)
    here.stream.write(b"question", end=True)
    await asyncio.sleep(0.1)
    there = pair.server_owner.handlers[0]
    assert there.calls == ["data", "end"]
    there.stream.write(b"answer")
    await asyncio.sleep(0.1)
    assert here.received == b"answer"
    there.stream.end()
    await asyncio.sleep(0.1)
    assert here.calls == ["data", "end"]
    assert pair.client.streams == 0
    with pytest.raises(LocalProtocolError):
        here.stream.write(b"more")
    await pair.close()
    assert here.calls == ["data", "end"], "a stream that has ended is not lost with its link"


@in_virtual_time
async def test_reset_is_the_last_call_for_the_peer_and_no_call_here():
    pair = LinkPair()
    here = open_recorder(pair.client)
    here.stream.write(b"x")
    await asyncio.sleep(0.1)
    here.stream.reset()
    here.stream.write(b"dropped")
    here.stream.end()
    await asyncio.sleep(0.1)
    there = pair.server_owner.handlers[0]
    assert there.calls == ["data", "lost"]
    assert isinstance(there.error, StreamReset)
    there.stream.write(b"dropped too")
    assert here.calls == []
    await pair.close()


@in_virtual_time
async def test_a_stream_that_cannot_be_written_has_no_room():
    pair = LinkPair()
    here = open_recorder(pair.client)
    assert here.stream.send_room_bytes > 0
    here.stream.end()
    assert here.stream.send_room_bytes == 0
    await pair.close()


@in_virtual_time
async def test_a_stream_cut_here_tells_its_handler_why_and_the_peer_that_it_was_reset():
    pair = LinkPair()
    here = open_recorder(pair.client)
    here.stream.write(b"x")
    await asyncio.sleep(0.1)
    here.stream.cut(StreamReset("no longer allowed"))
    assert here.calls == ["lost"]
    assert str(here.error) == "no longer allowed"
    await asyncio.sleep(0.1)
    assert pair.server_owner.handlers[0].calls == ["data", "lost"]
    await pair.close()


@in_virtual_time
async def test_consuming_more_than_was_delivered_is_refused():
    pair = LinkPair()
    here = open_recorder(pair.client)
    with pytest.raises(LocalProtocolError):
        here.stream.consumed(1)
    await pair.close()
