from tests.support.links import LinkPair, Recorder, open_recorder, ticks
from tests.support.virtual_time import in_virtual_time
from trunkline.channel.limits import Limits
from trunkline.channel.link_session import LinkSession
from trunkline.channel.link_stream import LinkStream


@in_virtual_time
async def test_streams_that_either_side_opens_are_the_links_own():
    pair = LinkPair(Recorder, limits=Limits(initial_window_bytes=64 * 1024))
    ours = open_recorder(pair.client).stream
    await ticks()
    assert isinstance(pair.client.session, LinkSession)
    theirs = pair.server.session.streams[ours.id]
    for stream, link in ((ours, pair.client), (theirs, pair.server)):
        assert isinstance(stream, LinkStream)
        assert stream.link is link
        assert (stream.send_window, stream.receive_window, stream.window_bytes) == (64 * 1024,) * 3
    await pair.close()
